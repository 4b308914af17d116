"""When an image stops, and with which patch size it goes on if it does not (Sections 3.1 and 4.2, Eq. (9)).

A score is higher for more certain predictions. Each step but the last has a threshold for each patch size. An image
whose score exceeds all thresholds of its step exits; at step T it always exits (eta_T = 0 in Section 3.1). With a
threshold of infinity no image exits.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def next_sizes(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The patch size that each image goes on with, by Eq. (9).

    The thresholds of a step, in ascending order, divide the scores into intervals, each closed at its upper end. The
    size whose threshold is the upper end of the interval that a score falls into comes next. Of equal thresholds the
    smallest size has the interval.

    Args:
        scores: (M,) of predictions of one step.
        thresholds: (K,) of this step, one for each size, in any order.

    Returns:
        (M,) sizes from 0 to K - 1; K exits.
    """
    order = np.argsort(thresholds, kind="stable")
    place = np.zeros(len(scores), np.int64)  # the number of thresholds below; quicker than a search for so few
    for threshold in thresholds[order]:
        place += scores > threshold
    sizes: np.ndarray = np.append(order, len(order)).take(place)
    return sizes


@dataclass(frozen=True)
class ExitRule:
    """Thresholds by Eq. (9): when an image exits, and the size of its next patch if it does not.

    Attributes:
        criterion: one of `CRITERIA`.
        thresholds: T - 1 rows of K scores: confidences, or negative entropies in nats.

    Raises:
        ValueError: if the criterion is unknown or a threshold is not a number.
    """

    criterion: str
    thresholds: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion={self.criterion!r} is unknown; pass one of {', '.join(CRITERIA)}")
        if any(np.isnan(threshold) for row in self.thresholds for threshold in row):
            raise ValueError(f"thresholds={list(self.thresholds)} hold NaN; pass a number for each step but the last")

    @classmethod
    def of(cls, criterion: str, thresholds: Sequence[float] | Sequence[Sequence[float]] | np.ndarray) -> ExitRule:
        """A rule of rows, or of single numbers where there is one patch size.

        Args:
            criterion: one of `CRITERIA`.
            thresholds: T - 1 numbers, or T - 1 rows of K numbers.

        Returns:
            The rule.

        Raises:
            ValueError: see the class.
        """
        rows = [row if isinstance(row, Sequence | np.ndarray) else [row] for row in thresholds]
        return cls(criterion, tuple(tuple(float(threshold) for threshold in row) for row in rows))

    def array(self, num_steps: int, num_sizes: int = 1) -> np.ndarray:
        """The thresholds as numbers to compute with.

        Args:
            num_steps: T that they are for.
            num_sizes: K that they are for.

        Returns:
            (T - 1, K) float64.

        Raises:
            ValueError: if they are for another T or K.
        """
        if len(self.thresholds) != num_steps - 1:
            raise ValueError(f"{len(self.thresholds)} thresholds for {num_steps} steps; pass {num_steps - 1}")
        for step, row in enumerate(self.thresholds, start=1):
            if len(row) != num_sizes:
                raise ValueError(f"{len(row)} thresholds at step {step} for {num_sizes} patch sizes; pass {num_sizes}")
        return np.array(self.thresholds, dtype=np.float64).reshape(num_steps - 1, num_sizes)


class ExitFigures(NamedTuple):
    """Accuracy and cost of early exits.

    Attributes:
        accuracy: in [0, 1].
        cost: average cost per image.
        exits: (T,) fraction of the images that exits at each step (Fig. 15).
        expected_length: average number of steps, E(t) of Fig. 15.
        size_shares: (K,) fraction of the focus patches that have each size (Fig. 17); zeros if there is no patch.
    """

    accuracy: float
    cost: float
    exits: np.ndarray
    expected_length: float
    size_shares: np.ndarray
