"""How accurate any thresholds for a budget can be: an upper bound of Eq. (7).

A relaxation: the thresholds of the glance obey Eq. (9), and after it each image may exit at the node that suits it
best, as if its label were known. The budget is relaxed to a price (Lagrangian duality), at which the relaxed problem is
solved exactly; its value, plus the price of the whole budget, is a bound whatever the price.
"""

from __future__ import annotations

import numpy as np

from agents.evaluation.coordinate_ascent import ScoreIntervals
from agents.evaluation.stopping import HistoryTable
from agents.evaluation.threshold_search import BUDGET_TOLERANCE, check_budget
from classifiers.networks.size_histories import size_histories

_MAX_PRICES = 60  # for a budget
_TOLERANCE = 0.1  # images between the bound and the relaxation's optimum
_ROUNDING = 1e-6  # images


class AccuracyBound:
    """Bounds on a table.

    Args:
        table: of any images.
    """

    def __init__(self, table: HistoryTable) -> None:
        self._table = table
        histories = size_histories(table.num_sizes, table.num_steps)
        after = [
            [node for node, history in enumerate(histories) if history[:1] == (size,)]
            for size in range(table.num_sizes)
        ]
        cost_if_right = np.where(table.is_right, table.multiply_adds, np.inf)  # (N, nodes)
        self._cheapest_right = np.stack([cost_if_right[:, nodes].min(axis=1) for nodes in after])  # (K, N)
        self._cheapest = np.array([[table.multiply_adds[nodes].min()] for nodes in after])  # (K, 1)
        self._lines: list[tuple[float, float]] = []  # the relaxation's value at a price, without the budget; the price
        glance = float(table.multiply_adds[0]) * len(table.scores), float(table.is_right[:, 0].sum())
        self._points = [glance]  # what it costs and how many images it gets right
        for price in (0.0, 0.5 / (len(table.scores) * max(float(np.ptp(table.multiply_adds)), 1.0))):
            self._solve(price)

    def at(self, budget: float) -> float:
        """A bound of the accuracy.

        Args:
            budget: average multiply-adds per image.

        Returns:
            In [0, 1]; no thresholds within the budget are more accurate on the table.

        Raises:
            ValueError: if the budget is out of range.
        """
        check_budget(self._table.multiply_adds, budget)
        images = len(self._table.scores)
        limit = budget * images * (1.0 + BUDGET_TOLERANCE)
        for _ in range(_MAX_PRICES):
            cost, right = max((point for point in self._points if point[0] <= limit), key=lambda point: point[1])
            above = [point for point in self._points if point[0] > limit and point[1] > right]
            if not above:
                break
            next_cost, next_right = min(above)
            price = (next_right - right) / (next_cost - cost)
            if self._solve(price) <= right - price * cost + _TOLERANCE:
                break
        bound = min(value + price * limit for value, price in self._lines)
        return float(np.floor(bound + _ROUNDING)) / images

    def _solve(self, price: float) -> float:
        """Solves the relaxation at a price and returns its value."""
        table = self._table
        is_worth_it = self._cheapest_right - self._cheapest < (1.0 / price if price else np.inf)
        after_focus = np.where(is_worth_it, self._cheapest_right, self._cheapest)
        right = np.concatenate([is_worth_it, table.is_right[:, :1].T])
        cost = np.concatenate([after_focus, np.full((1, len(table.scores)), table.multiply_adds[0])])
        right_images, total = ScoreIntervals(table.scores[:, 0], right, cost).totals_at_price(price)
        self._points.append((total, right_images))
        self._lines.append((right_images - price * total, price))
        return self._lines[-1][0]
