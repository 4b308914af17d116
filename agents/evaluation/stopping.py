"""Early exits: when an image stops, and the accuracy and cost of that (Section 3.4, Eq. (7)).

All functions are pure and vectorised over a record of fixed-length episodes: scores (N, T), one per image and step,
higher for more certain predictions. An image exits at the first step whose score reaches that step's threshold; at step
T it always exits (eta_T = 0 in Section 3.1). With a threshold of infinity no image exits.

Differs from the paper: an image also exits if its score equals the threshold. Fitted thresholds lie halfway between two
scores, so this makes no difference to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

CRITERIA = ("confidence", "entropy", "random")
"""What measures the certainty of a prediction (Table 7)."""


def exit_scores(criterion: str, confidence: np.ndarray, entropy: np.ndarray, seed: int = 0) -> np.ndarray:
    """Certainty of predictions by one of `CRITERIA`; higher is more certain.

    Args:
        criterion: `"confidence"`, the largest probability; `"entropy"`, the negative entropy; `"random"`, uniform
        noise.
        confidence: (N, T) largest probabilities.
        entropy: (N, T) entropies of the predictions, in nats.
        seed: of the noise.

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
    """The step at which each image exits.

    Args:
        scores: (N, T).
        thresholds: (T - 1,).

    Returns:
        (N,) steps, from 1 to T.
    """
    exits = scores[:, :-1] >= thresholds
    steps: np.ndarray = np.where(exits.any(axis=1), exits.argmax(axis=1) + 1, scores.shape[1])
    return steps


@dataclass(frozen=True)
class ExitRule:
    """When an image exits: at the first step whose score reaches its threshold.

    Attributes:
        criterion: one of `CRITERIA`.
        thresholds: T - 1 smallest scores to exit with: confidences, or negative entropies in nats.

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
    """Accuracy and cost of early exits.

    Attributes:
        accuracy: in [0, 1].
        cost: average cost per image.
        exits: (T,) fraction of the images that exits at each step (Fig. 15).
        expected_length: average number of steps, E(t) of Fig. 15.
    """

    accuracy: float
    cost: float
    exits: np.ndarray
    expected_length: float


def exit_figures(scores: np.ndarray, is_right: np.ndarray, costs: np.ndarray, thresholds: np.ndarray) -> ExitFigures:
    """Accuracy and cost of thresholds.

    Args:
        scores: (N, T).
        is_right: (N, T) whether the prediction at each step is right.
        costs: (T,) cost of an image that exits at each step.
        thresholds: (T - 1,).

    Returns:
        See `ExitFigures`.
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
