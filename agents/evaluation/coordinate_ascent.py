"""Thresholds with the most credit for a budget (Eq. (7)), for one patch size or several, by exact coordinate ascent.

Not in the paper, which takes a geometric distribution of exits for one size and a genetic algorithm for several. The
search is deterministic and has two parts:

1. A price of multiply-adds in credit takes the place of the budget. All thresholds of a step then have a joint
   optimum given those of the other steps, and the steps take turns. Each price is the slope between two solutions next
   to each other, and is solved from both, so that the solutions spread over the convex hull of what is possible.
2. For a budget, single thresholds move to their best values until no move helps, from the solutions around the budget
   (the paper's geometric ones of each size are among them), with each of the steps as the first to move, and again from
   the best of them with one threshold moved far away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

from agents.evaluation.history_table import HistoryTable
from agents.evaluation.score_intervals import ScoreIntervals
from agents.evaluation.threshold_search import BUDGET_TOLERANCE, check_budget, quota_thresholds, shares_for_budget
from classifiers.networks.size_histories import node_of, size_histories

_NUM_PRICES = 40
_NUM_BISECTIONS = 12

Move = Callable[[ScoreIntervals, float, np.ndarray], np.ndarray]


class Solution(NamedTuple):
    """Thresholds, and what they give on the table that they were found on.

    Attributes:
        thresholds: (T - 1, K).
        credit: average credit of an image, in [0, 1]; the accuracy where the table counts right images alone.
        cost: average multiply-adds per image.
    """

    thresholds: np.ndarray
    credit: float
    cost: float


class CoordinateAscent:
    """The solutions found on a table so far; every search adds to them.

    Args:
        table: of the calibration images.
        num_kicks: how far away values of each threshold the solution for a budget is tried to be improved from. None
            takes up to 4, fewer for many images, and none for more than 8,000, where they help least and take longest.
    """

    def __init__(self, table: HistoryTable, num_kicks: int | None = None) -> None:
        self._table = table
        self._num_kicks = min(4, 8_000 // len(table.scores)) if num_kicks is None else num_kicks
        fractions = (np.arange(self._num_kicks) + 0.5) / max(self._num_kicks, 1)
        self._kicks = [np.quantile(scores, fractions) for scores in table.scores_by_step()[:-1]]
        self._rows = np.arange(len(table.scores))
        sizes, steps = table.num_sizes, table.num_steps
        self._found: list[Solution] = []
        for history in size_histories(sizes, steps):  # all images share it
            thresholds = np.full((steps - 1, sizes), -np.inf)
            thresholds[np.arange(len(history)), history] = np.inf
            self._add(thresholds)
        nearly_free = 0.5 / (len(self._rows) * max(float(np.ptp(table.multiply_adds)), 1.0))  # half an image for all
        for start in self._found[-(sizes ** (steps - 1)) :]:
            self._ascend(start, 0, ScoreIntervals.at_price, nearly_free)
        self._solve_prices()

    def within(self, budget: float) -> Solution:
        """The thresholds with the most credit for a budget (`HistoryTable.credit`).

        Args:
            budget: average multiply-adds per image.

        Returns:
            The best solution found; never with less credit than an earlier one for a smaller budget.

        Raises:
            ValueError: if the budget is out of range.
        """
        check_budget(self._table.multiply_adds, budget)
        self._add_geometric(budget)
        allowed = budget * (1.0 + BUDGET_TOLERANCE)
        affordable = sorted((solution for solution in self._found if solution.cost <= allowed), key=_worth)
        too_dear = sorted((solution for solution in self._found if solution.cost > allowed), key=lambda each: each.cost)
        limit = allowed * len(self._rows)
        around = [(start, first) for start in affordable[-1:] + too_dear[:1] for first in range(len(start.thresholds))]
        found = [affordable[-1], *(self._ascend(*start, ScoreIntervals.within, limit) for start in around)]
        best = max((solution for solution in found if solution.cost <= allowed), key=_worth)
        for start in self._kicked(best):
            found.append(self._ascend(*start, ScoreIntervals.within, limit))
        return max((solution for solution in found if solution.cost <= allowed), key=_worth)

    def cheapest(self, credit: float) -> Solution | None:
        """The cheapest thresholds that reach an average credit.

        Args:
            credit: in [0, 1].

        Returns:
            The cheapest solution found; None if no thresholds reach it.
        """
        low = float(self._table.multiply_adds[0])
        for _ in range(_NUM_BISECTIONS):
            enough = [solution for solution in self._found if solution.credit >= credit]
            if not enough:
                return None
            high = min(solution.cost for solution in enough)
            middle = (low + high) / 2
            if self.within(middle).credit < credit:
                low = middle
        return min((solution for solution in self._found if solution.credit >= credit), key=lambda each: each.cost)

    def _add_geometric(self, budget: float) -> None:
        """The paper's thresholds for the budget with each of the sizes alone."""
        table = self._table
        for size in range(table.num_sizes):
            nodes = [node_of((size,) * looks, table.num_sizes) for looks in range(table.num_steps)]
            costs = table.multiply_adds[nodes]
            thresholds = np.full((table.num_steps - 1, table.num_sizes), -np.inf)
            shares = shares_for_budget(costs, min(max(budget, costs[0]), costs[-1]))
            thresholds[:, size] = quota_thresholds(table.scores[:, nodes], shares)
            self._add(thresholds)

    def _solve_prices(self) -> None:
        """Fills the widest gap between solutions on the hull, again and again."""
        tried: set[tuple[float, ...]] = set()
        for _ in range(_NUM_PRICES):
            gaps = [gap for gap in pairwise(_hull(self._found)) if (gap[0].cost, gap[1].cost) not in tried]
            if not gaps:
                return
            low, high = max(gaps, key=lambda gap: gap[1].cost - gap[0].cost)
            tried.add((low.cost, high.cost))
            price = _slope(low, high)
            for start in (low, high):
                self._ascend(start, 0, ScoreIntervals.at_price, price)

    def _kicked(self, solution: Solution) -> Iterator[tuple[Solution, int]]:
        """The solution with one threshold moved far away, and the step after it, which is the first to adapt."""
        steps, sizes = solution.thresholds.shape
        for step, size, score in product(range(steps), range(sizes), range(self._num_kicks)):
            thresholds = solution.thresholds.copy()
            thresholds[step, size] = self._kicks[step][score]
            yield solution._replace(thresholds=thresholds), (step + 1) % steps

    def _ascend(self, start: Solution, first: int, move: Move, price_or_limit: float) -> Solution:
        """Moves the thresholds of one step after another, with a price or a limit, until no step changes."""
        thresholds = start.thresholds.copy()
        step, unchanged = first, 0
        while unchanged < len(thresholds):
            row = move(self._intervals(thresholds, step), price_or_limit, thresholds[step])
            unchanged = unchanged + 1 if np.array_equal(row, thresholds[step]) else 1
            thresholds[step] = row
            step = (step + 1) % len(thresholds)
        return self._add(thresholds)

    def _add(self, thresholds: np.ndarray) -> Solution:
        self._found.append(Solution(thresholds, *self._table.credit_and_cost(thresholds)))
        return self._found[-1]

    def _intervals(self, thresholds: np.ndarray, step: int) -> ScoreIntervals:
        """What each choice at a step would give, for the images that reach it."""
        table, sizes = self._table, self._table.num_sizes
        credit, width = table.credits.ravel(), table.credits.shape[1]
        nodes = table.walk(self._rows, np.zeros_like(self._rows), thresholds[:step])
        is_gone = nodes < sum(sizes**length for length in range(step))
        rows, here = self._rows[~is_gone], nodes[~is_gone]
        children = here * sizes + 1 + np.arange(sizes)[:, None]
        ends = table.walk(np.tile(rows, sizes), children.ravel(), thresholds[step + 1 :]).reshape(children.shape)
        ends = np.concatenate([ends, here[None]])
        return ScoreIntervals(
            table.scores[rows, here],
            credit.take(rows * width + ends),
            table.multiply_adds.take(ends),
            float(table.credits[self._rows[is_gone], nodes[is_gone]].sum()),
            float(table.multiply_adds[nodes[is_gone]].sum()),
        )


def _hull(solutions: list[Solution]) -> list[Solution]:
    """The corners of the upper convex hull of cost and credit, up to the most credit."""
    hull: list[Solution] = []
    for point in sorted(solutions, key=lambda each: (each.cost, -each.credit)):
        if hull and point.credit <= hull[-1].credit:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-2], point):
            hull.pop()
        hull.append(point)
    return hull


def _slope(low: Solution, high: Solution) -> float:
    return (high.credit - low.credit) / (high.cost - low.cost)


def _worth(solution: Solution) -> tuple[float, float]:
    return solution.credit, -solution.cost
