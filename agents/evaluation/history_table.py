"""What Eq. (7) is solved on: the outcome of every image after every size history, and what thresholds make of it.

Each image is run once per node of the tree of `classifiers.networks.size_histories`, so that any thresholds can be
judged without the networks. With a single patch size the nodes are the steps.

Thresholds are searched for on one table and judged on another, of other images. Which of the last few hundred images
are right is chance, and a search that counts right images alone fits that chance; so the searches go by `credit`, which
`agents.evaluation.budgets.history_table` chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.evaluation.stopping import ExitFigures, next_sizes
from classifiers.networks.size_histories import count_steps, size_histories

_CREDIT_UNITS = 2.0**20  # rounded to these, sums are the same in any order: no search goes round in circles


@dataclass(frozen=True)
class HistoryTable:
    """N images at all nodes.

    Attributes:
        scores: (N, nodes) how certain the prediction is; higher is more certain.
        is_right: (N, nodes) bool, whether the prediction is right.
        multiply_adds: (nodes,) what an image costs that exits there, all looks and decisions before counted.
        num_sizes: K patch sizes, from the smallest to the largest.
        credit: (N, nodes) what an image counts in a search for thresholds if it exits there, in [0, 1]; None counts the
            right images.

    Raises:
        ValueError: if the shapes do not fit, or a score is not a number.
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
        expected = (self.num_steps - 1, self.num_sizes)
        if thresholds.shape != expected:
            raise ValueError(
                f"thresholds have shape {thresholds.shape}; pass {expected}: a row for each step but the last, with a "
                "threshold for each size"
            )
        start = np.zeros(len(self.scores), np.int64)
        return self.walk(np.arange(len(self.scores)), start, thresholds)

    def walk(self, rows: np.ndarray, nodes: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Continues episodes that wait at nodes of one step until they exit.

        Args:
            rows: (M,) images, repeated or left out at will.
            nodes: (M,) where they are, all after the same number of looks.
            thresholds: (S, K) of that step and all later ones but the last.

        Returns:
            (M,) nodes where they exit.
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
        """What a search for thresholds goes by.

        Args:
            thresholds: see `exits`.

        Returns:
            The average credit of an image, in [0, 1], and its average cost.
        """
        ends = self.exits(thresholds)
        credit = self.credits[np.arange(len(ends)), ends].mean()
        return float(credit), float(self.multiply_adds[ends].mean())

    def figures(self, thresholds: np.ndarray) -> ExitFigures:
        """Accuracy and cost of thresholds.

        Args:
            thresholds: see `exits`.

        Returns:
            See `ExitFigures`.
        """
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
