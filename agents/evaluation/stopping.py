"""When an image stops, and with which patch size it goes on if it does not (Sections 3.1 and 4.2, Eq. (9)).

A score is higher for more certain predictions. Each step but the last has a threshold for each patch size. An image
whose score exceeds all thresholds of its step exits; at step T it always exits (eta_T = 0 in Section 3.1). With a
threshold of infinity no image exits.

Thresholds are searched for (Eq. (7)) and judged on a `HistoryTable`: each image is run once per node of the tree of
`classifiers.networks.size_histories`, so that any thresholds can be judged without the networks. With a single patch
size the nodes are the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from classifiers.networks.size_histories import count_steps, size_histories

CRITERIA = ("confidence", "entropy", "random")
"""What measures the certainty of a prediction (Table 7)."""

_CREDIT_UNITS = 2.0**20  # rounded to these, sums are the same in any order: no search goes round in circles


def exit_scores(criterion: str, confidence: np.ndarray, entropy: np.ndarray, seed: int = 0) -> np.ndarray:
    """Certainty of predictions; higher is more certain.

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
    _check_criterion(criterion)
    if criterion == "random":
        return np.random.default_rng(seed).random(confidence.shape, dtype=np.float32)
    return confidence if criterion == "confidence" else -entropy


def _check_criterion(criterion: str) -> None:
    if criterion not in CRITERIA:
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


@dataclass(frozen=True, eq=False)
class ExitRule:
    """Thresholds by Eq. (9): when an image exits, and the size of its next patch if it does not.

    Attributes:
        criterion: one of `CRITERIA`.
        thresholds: (T - 1, K) float64, confidences or negative entropies in nats. With one patch size, (T - 1,) or a
            list of numbers may be passed.

    Raises:
        ValueError: if the criterion is unknown or a threshold is NaN.
    """

    criterion: str
    thresholds: np.ndarray

    def __post_init__(self) -> None:
        _check_criterion(self.criterion)
        thresholds = np.array(self.thresholds, np.float64)
        if np.isnan(thresholds).any():
            raise ValueError(f"thresholds={thresholds.tolist()} hold NaN; pass a number for each step but the last")
        object.__setattr__(self, "thresholds", thresholds[:, None] if thresholds.ndim == 1 else thresholds)


def check_thresholds(thresholds: np.ndarray, num_steps: int, num_sizes: int) -> None:
    """Raises ValueError if thresholds are not for T steps and K patch sizes."""
    expected = (num_steps - 1, num_sizes)
    if thresholds.shape != expected:
        raise ValueError(
            f"thresholds have shape {thresholds.shape}; pass {expected}: a row for each step but the last, with a "
            "threshold for each patch size"
        )


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


@dataclass(frozen=True)
class HistoryTable:
    """The outcome of N images at all nodes.

    Thresholds are searched for on one table and judged on another, of other images. Which of the last few hundred
    images are right is chance, and a search that counts right images alone fits that chance; so the searches go by
    `credit`, which `agents.evaluation.budgets.history_table` chooses.

    Attributes:
        scores: (N, nodes) how certain the prediction is; higher is more certain.
        is_right: (N, nodes) bool, whether the prediction is right.
        multiply_adds: (nodes,) what an image costs that exits there, all looks and decisions before counted.
        num_sizes: K patch sizes, from the smallest to the largest.
        credit: (N, nodes) what an image counts in a search for thresholds if it exits there, in [0, 1]; None counts the
            right images.

    Raises:
        ValueError: if the shapes do not fit, or a score is NaN.
    """

    scores: np.ndarray
    is_right: np.ndarray
    multiply_adds: np.ndarray
    num_sizes: int = 1
    credit: np.ndarray | None = None

    def __post_init__(self) -> None:
        count_steps(len(self.multiply_adds), self.num_sizes)
        expected = (len(self.scores), len(self.multiply_adds))
        for name, values in (("scores", self.scores), ("is_right", self.is_right), ("credit", self.credits)):
            shape = values.shape
            if shape != expected or not expected[0]:
                raise ValueError(f"{name} has shape {shape}; pass one or more images and {expected[1]} nodes")
        if self.credit is not None:
            object.__setattr__(self, "credit", np.round(self.credit * _CREDIT_UNITS) / _CREDIT_UNITS)
        if np.isnan(self.scores).any():
            raise ValueError("scores hold NaN; the networks' predictions are not finite for some images")

    @property
    def num_steps(self) -> int:
        """T, the glance included."""
        return count_steps(len(self.multiply_adds), self.num_sizes)

    @property
    def credits(self) -> np.ndarray:
        """(N, nodes) what each image counts at each node, right images alone if there is no `credit`."""
        return self.is_right if self.credit is None else self.credit

    def scores_by_step(self) -> list[np.ndarray]:
        """The scores of the nodes of each step, T arrays (N, K^(t - 1))."""
        counts = [self.num_sizes**length for length in range(self.num_steps)]
        return np.split(self.scores, np.cumsum(counts)[:-1], axis=1)

    def exits(self, thresholds: np.ndarray) -> np.ndarray:
        """Where each image exits by Eq. (9).

        Args:
            thresholds: (T - 1, K), eta_t^k of step t and size k.

        Returns:
            (N,) nodes.

        Raises:
            ValueError: if the thresholds have another shape.
        """
        check_thresholds(thresholds, self.num_steps, self.num_sizes)
        rows = np.arange(len(self.scores))
        return self.walk(rows, np.zeros_like(rows), thresholds)

    def walk(self, rows: np.ndarray, nodes: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Continues episodes of (M,) images at (M,) nodes of one step; the nodes where they exit.

        The thresholds, (S, K), are those of that step and of all later ones but the last. Images may be repeated.
        """
        scores, offsets = self.scores.ravel(), rows * len(self.multiply_adds)
        ends, waiting = nodes.copy(), np.arange(len(nodes))
        for here in thresholds:
            at = ends[waiting]
            chosen = next_sizes(scores.take(offsets[waiting] + at), here)
            goes_on = np.flatnonzero(chosen < self.num_sizes)
            waiting = waiting[goes_on]
            ends[waiting] = at[goes_on] * self.num_sizes + 1 + chosen[goes_on]
        return ends

    def credit_and_cost(self, thresholds: np.ndarray) -> tuple[float, float]:
        """The objective of a search for thresholds: an image's average credit, in [0, 1], and its average cost."""
        ends = self.exits(thresholds)
        credit = self.credits[np.arange(len(ends)), ends].mean()
        return float(credit), float(self.multiply_adds[ends].mean())

    def figures(self, thresholds: np.ndarray) -> ExitFigures:
        """Accuracy and cost of (T - 1, K) thresholds."""
        ends = self.exits(thresholds)
        by_node = np.bincount(ends, minlength=len(self.multiply_adds)) / len(ends)
        histories = size_histories(self.num_sizes, self.num_steps)
        by_step = np.bincount([len(history) for history in histories], by_node)
        patches = np.array([[history.count(size) for size in range(self.num_sizes)] for history in histories])
        by_size = by_node @ patches
        return ExitFigures(
            accuracy=float(self.is_right[np.arange(len(ends)), ends].mean()),
            cost=float(by_node @ self.multiply_adds),
            exits=by_step,
            expected_length=float(by_step @ np.arange(1, len(by_step) + 1)),
            size_shares=by_size / max(by_size.sum(), np.finfo(np.float64).tiny),
        )
