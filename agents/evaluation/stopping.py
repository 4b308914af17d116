"""When to stop looking: thresholds for a budget, and what they give (Section 3.4, Eq. (7)).

All functions are pure and vectorised over a record of fixed-length rollouts: scores (N, T), one per image and step,
high where the prediction looks settled. An image leaves at the first step whose score reaches that step's threshold; at
step T it always leaves (eta_T = 0 in Section 3.1). A threshold of infinity lets nobody out.

Differs from the paper: a score equal to the threshold leaves (the paper asks for more); thresholds that are found here
lie halfway between two scores, so it makes no difference to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

CRITERIA = ("confidence", "entropy", "random")
"""What may tell that a prediction is settled (Table 7)."""


def exit_scores(criterion: str, confidence: np.ndarray, entropy: np.ndarray, seed: int = 0) -> np.ndarray:
    """How settled predictions are by one of `CRITERIA`, higher is more.

    Args:
        criterion: `"confidence"`, the largest probability; `"entropy"`, the negative entropy; `"random"`, chance.
        confidence: (N, T) largest probabilities.
        entropy: (N, T) entropies of the predictions, in nats.
        seed: of chance.

    Returns:
        (N, T) scores.

    Raises:
        ValueError: if there is no such criterion.
    """
    if criterion == "confidence":
        return confidence
    if criterion == "entropy":
        return -entropy
    if criterion == "random":
        return np.random.default_rng(seed).random(confidence.shape, dtype=np.float32)
    raise ValueError(f"criterion={criterion!r} is unknown; pass one of {', '.join(CRITERIA)}")


def exit_steps(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The step at which each image leaves.

    Args:
        scores: (N, T).
        thresholds: (T - 1,).

    Returns:
        (N,) steps, from 1 to T.
    """
    settled = scores[:, :-1] >= thresholds
    steps: np.ndarray = np.where(settled.any(axis=1), settled.argmax(axis=1) + 1, scores.shape[1])
    return steps


@dataclass(frozen=True)
class ExitRule:
    """When an image leaves: at the first step whose score reaches its threshold.

    Attributes:
        criterion: one of `CRITERIA`.
        thresholds: T - 1 of them: least confidence, or most negative entropy (in nats), to leave with.

    Raises:
        ValueError: if the criterion is unknown or a threshold is not a number.
    """

    criterion: str
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion={self.criterion!r} is unknown; pass one of {', '.join(CRITERIA)}")
        if any(np.isnan(threshold) for threshold in self.thresholds):
            raise ValueError(f"thresholds={list(self.thresholds)} hold NaN; pass a number for each step but the last")


class ExitFigures(NamedTuple):
    """What leaving early gives.

    Attributes:
        accuracy: share of right predictions.
        cost: average cost per image.
        exits: (T,) share of the images that leaves at each step (Fig. 15).
        expected_length: average number of steps, E(t) of Fig. 15.
    """

    accuracy: float
    cost: float
    exits: np.ndarray
    expected_length: float


def exit_figures(scores: np.ndarray, is_right: np.ndarray, costs: np.ndarray, thresholds: np.ndarray) -> ExitFigures:
    """What thresholds give on a record.

    Args:
        scores: (N, T).
        is_right: (N, T) whether the prediction at each step is right.
        costs: (T,) what it costs to leave at each step.
        thresholds: (T - 1,).

    Returns:
        The figures.
    """
    num_steps = scores.shape[1]
    steps = exit_steps(scores, thresholds)
    right = is_right[np.arange(len(steps)), steps - 1]
    exits = np.bincount(steps - 1, minlength=num_steps) / len(steps)
    return ExitFigures(
        accuracy=float(right.mean()),
        cost=float(exits @ costs),
        exits=exits,
        expected_length=float(exits @ np.arange(1, num_steps + 1)),
    )
