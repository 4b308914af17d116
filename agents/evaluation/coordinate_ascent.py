"""Thresholds with the most credit for a budget (Eq. (7)), for one patch size or several, by exact coordinate ascent.

Not in the paper, which takes a geometric distribution of exits for one size and a genetic algorithm for several. The
search is deterministic and has two parts:

1. A price of multiply-adds in credit takes the place of the budget. All thresholds of a step then have a joint
   optimum given those of the other steps, and the steps take turns. Each price is the slope between two solutions next
   to each other, and is solved from both, so that the solutions spread over the convex hull of what is possible.
2. For a budget, single thresholds move to their best values until no move helps, from the solutions around the budget
   (the paper's geometric ones of each size are among them), with each of the steps as the first to move, and again from
   the best of them with one threshold moved far away.

Both move the thresholds of one step with those of all other steps fixed, by sorted scans. Thresholds change a result
only where they pass an observed score. So the images that reach a step are sorted by their scores, and cumulative sums
of what each choice would give (exit, or go on with a patch of size k) yield the credit and the cost of every value of a
threshold at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise, product
from typing import NamedTuple

import numpy as np

from agents.evaluation.stopping import HistoryTable
from agents.evaluation.threshold_search import (
    BUDGET_TOLERANCE,
    between,
    check_budget,
    quota_thresholds,
    shares_for_budget,
)
from classifiers.networks.size_histories import node_of, size_histories

_NUM_PRICES = 40
_NUM_BISECTIONS = 12
_MIN_GAIN = 1e-6  # of an image; less is rounding

Segments = list[tuple[int, int]]
"""The sizes whose intervals are not empty, each with the cut where its interval ends, in ascending order."""


class ScoreIntervals:
    """The thresholds of one step, and what they are worth.

    Args:
        scores: (M,) of the images that reach the step.
        credit: (K + 1, M) what the image counts in the end if the next patch has size k, or, last, if it exits: 1 for a
            right prediction and 0 for a wrong one, or between.
        cost: (K + 1, M) the multiply-adds that the image costs then.
        credit_before: what those that exited before count together.
        cost_before: what those that exited before cost together.
    """

    def __init__(
        self,
        scores: np.ndarray,
        credit: np.ndarray,
        cost: np.ndarray,
        credit_before: float = 0.0,
        cost_before: float = 0.0,
    ) -> None:
        order = np.argsort(scores)  # cuts lie between different scores: the order of equal ones does not matter
        ranked = scores[order].astype(np.float64)
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, np.int64)
        self._highest = ranked[ends]  # score below each cut but the first; a cut lies between two different scores
        inner = between(self._highest[:-1], ranked[ends[:-1] + 1])
        self._thresholds = np.concatenate([[-np.inf], inner, [np.inf] * (len(ends) > 0)])
        self._credit, self._cost = (_cumulative(values[:, order], ends) for values in (credit, cost))
        self._credit_before, self._cost_before = credit_before, cost_before
        self._exit = len(credit) - 1

    def at_price(self, price: float, thresholds: np.ndarray) -> np.ndarray:
        """The best (K,) thresholds, all at once, if a multiply-add costs `price` of an image's credit.

        A dynamic programme over sets of sizes: the best way to divide the scores below a cut among the sizes of a set
        ends with the interval of one of them, and the others divide what is below. Sizes that are not used have -inf.
        The passed thresholds are kept unless others are better.
        """
        segments = self._best_segments(price)
        (credit, cost), (credit_now, cost_now) = (self._totals(at) for at in (segments, self._as_segments(thresholds)))
        gained = (credit - credit_now) - price * (cost - cost_now)
        return self._as_thresholds(segments) if gained > _MIN_GAIN else thresholds

    def totals_at_price(self, price: float) -> tuple[float, float]:
        """Credit and cost, of all images together, with the best thresholds at a price."""
        return self._totals(self._best_segments(price))

    def _best_segments(self, price: float) -> Segments:
        value = self._credit - price * self._cost
        nothing = np.full(value.shape[1], -np.inf)
        nothing[0] = 0.0
        best: dict[tuple[int, ...], np.ndarray] = {(): nothing}
        for sizes in (
            chosen for count in range(1, self._exit + 1) for chosen in combinations(range(self._exit), count)
        ):
            ways = ((value[last], best[_without(sizes, last)]) for last in sizes)
            best[sizes] = np.maximum.reduce([gain + np.maximum.accumulate(below - gain) for gain, below in ways])
        left, segments = tuple(range(self._exit)), Segments()
        end = int(np.argmax(best[left] - value[-1]))
        while end > 0:
            margins = {last: (best[_without(left, last)] - value[last])[: end + 1] for last in left}
            last = max(left, key=lambda size: margins[size].max() + value[size][end])
            start = int(np.argmax(margins[last]))
            if start < end:
                segments.insert(0, (last, end))
            left, end = _without(left, last), start
        return segments

    def within(self, limit: float, thresholds: np.ndarray) -> np.ndarray:
        """Coordinate ascent: moves one of the (K,) thresholds after another to its best value until none helps.

        Better is, in this order: a cost of all images within the limit; more credit, or less cost as long as the limit
        is exceeded; less cost.
        """
        segments = start = self._as_segments(thresholds)
        while True:
            moved = [self._scan(size, segments, limit) for size in range(self._exit)]
            best = max(moved, key=lambda found: self._worth(found, limit))
            if self._worth(best, limit) <= self._worth(segments, limit):
                break
            segments = best
        return thresholds if segments == start else self._as_thresholds(segments)

    def _scan(self, size: int, segments: Segments, limit: float) -> Segments:
        """The best interval for a size: all cuts at which it may end, those of the other sizes fixed."""
        others = [segment for segment in segments if segment[0] != size]
        credit, cost = self._totals(others)
        gain, price = self._credit[size], self._cost[size]
        counts, costs = np.full(len(gain), credit), np.full(len(price), cost)
        start = 0
        for owner, end in [*others, (self._exit, len(gain) - 1)]:
            here = slice(start + 1, end + 1)
            counts[here] += (gain[here] - gain[start]) - (self._credit[owner, here] - self._credit[owner, start])
            costs[here] += (price[here] - price[start]) - (self._cost[owner, here] - self._cost[owner, start])
            start = end
        fits = np.flatnonzero(costs <= limit)
        if len(fits):
            most = fits[counts[fits] == counts[fits].max()]
            cut = int(most[np.argmin(costs[most])])
        else:
            cut = int(np.argmin(costs))
        moved = [segment for segment in others if segment[1] != cut]
        return sorted([*moved, (size, cut)] if cut else others, key=lambda segment: segment[1])

    def _worth(self, segments: Segments, limit: float) -> tuple[bool, float, float]:
        credit, cost = self._totals(segments)
        return (True, credit, -cost) if cost <= limit else (False, -cost, credit)

    def _totals(self, segments: Segments) -> tuple[float, float]:
        """Credit and cost of all images together."""
        credit, cost, start = self._credit_before, self._cost_before, 0
        for size, end in [*segments, (self._exit, self._credit.shape[1] - 1)]:
            credit += self._credit[size, end] - self._credit[size, start]
            cost += self._cost[size, end] - self._cost[size, start]
            start = end
        return credit, cost

    def _as_segments(self, thresholds: np.ndarray) -> Segments:
        cuts = np.searchsorted(self._highest, thresholds, side="right")
        segments = Segments()
        for size in np.argsort(thresholds, kind="stable"):
            if cuts[size] > (segments[-1][1] if segments else 0):
                segments.append((int(size), int(cuts[size])))
        return segments

    def _as_thresholds(self, segments: Segments) -> np.ndarray:
        thresholds = np.full(self._exit, -np.inf)
        for size, cut in segments:
            thresholds[size] = self._thresholds[cut]
        return thresholds


def _cumulative(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(K + 1, cuts) sums of the values below each cut."""
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1, dtype=np.float64)[:, ends]], axis=1)


def _without(sizes: tuple[int, ...], size: int) -> tuple[int, ...]:
    return tuple(other for other in sizes if other != size)


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
