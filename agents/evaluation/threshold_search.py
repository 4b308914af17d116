"""Thresholds for a budget (Eq. (7), Section 3.4), from the paper's geometric distribution or by a grid search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_GRID_CELLS = 1 << 20  # most combinations of thresholds that `best_thresholds` tries


def geometric_shares(ratio: float, num_steps: int) -> np.ndarray:
    """The fraction of images that exits at each step, q_t = z (1 - q)^(t-1) q with 1 - q = `ratio`.

    Args:
        ratio: fraction of a step over that of the previous step, 0 or more. Above 1, more images exit late than early,
            as large budgets need; the paper's 0 < q < 1 ends at the uniform distribution.
        num_steps: T.

    Returns:
        (T,) fractions with sum 1.
    """
    exponents = np.arange(num_steps) if ratio <= 1.0 else np.arange(num_steps) - (num_steps - 1)
    weights = np.power(float(ratio), exponents)
    shares: np.ndarray = weights / weights.sum()
    return shares


def shares_for_budget(costs: np.ndarray, budget: float) -> np.ndarray:
    """The geometric distribution of exits whose average cost is the budget.

    Args:
        costs: (T,) cost of an image that exits at each step, increasing.
        budget: average cost per image, from the cost of the first step to that of the last.

    Returns:
        (T,) fractions with sum 1.

    Raises:
        ValueError: if the budget is outside this range.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if not costs[0] <= budget <= costs[-1]:
        raise ValueError(
            f"budget={budget:.6g} is out of range; pass {costs[0]:.6g} (a glance alone) to {costs[-1]:.6g} (all "
            f"{len(costs)} steps)"
        )
    low, high = 0.0, 1.0  # bisection over ratio / (1 + ratio), which covers all ratios
    for _ in range(50):
        middle = (low + high) / 2
        if geometric_shares(middle / (1.0 - middle), len(costs)) @ costs <= budget:
            low = middle
        else:
            high = middle
    return geometric_shares(low / (1.0 - low), len(costs))


def quota_thresholds(scores: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Thresholds at which the given fraction of images exits at each step, those with the highest scores.

    If several images tie for the last place of a step, none of them exits, so that no step exceeds its quota; the
    places that stay free are added to the next step's quota.

    Args:
        scores: (N, T).
        shares: (T,) fractions with sum 1.

    Returns:
        (T - 1,) thresholds.
    """
    total, num_steps = scores.shape
    quotas = np.ceil(np.cumsum(shares) * total - 1e-6).astype(np.int64)
    thresholds = np.full(num_steps - 1, np.inf)
    waiting, left = np.arange(total), 0
    for step in range(num_steps - 1):
        here = scores[waiting, step]
        thresholds[step] = _highest(here, int(quotas[step]) - left)
        stays = here <= thresholds[step]
        left += len(here) - int(stays.sum())
        waiting = waiting[stays]
    return thresholds


def _highest(scores: np.ndarray, count: int) -> float:
    """The lowest threshold that at most `count` of the scores exceed."""
    if count <= 0 or len(scores) == 0:
        return np.inf
    if count >= len(scores):
        return -np.inf
    bound = np.partition(scores, len(scores) - count - 1)[
        len(scores) - count - 1
    ]  # the highest that must not exceed it
    above = scores[scores > bound]
    return float(_between(bound, above.min())) if len(above) else np.inf


def _between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Halfway between neighbours, so that rounding errors don't matter; `low` if there is nothing between."""
    middle = (np.float64(low) + np.float64(high)) / 2
    return np.where(middle < high, middle, low)


@dataclass(frozen=True)
class ParetoFront:
    """Pareto-optimal thresholds on the record that they were fitted on: higher accuracy costs more.

    Attributes:
        thresholds: (M, T - 1).
        accuracy: (M,) increasing.
        cost: (M,) average cost per image, increasing.
    """

    thresholds: np.ndarray
    accuracy: np.ndarray
    cost: np.ndarray

    def within(self, budget: float) -> np.ndarray:
        """The most accurate thresholds within a budget.

        Args:
            budget: average cost per image.

        Returns:
            (T - 1,) thresholds.

        Raises:
            ValueError: if even the cheapest thresholds cost more.
        """
        affordable = int(np.searchsorted(self.cost, budget * (1.0 + 1e-9), side="right"))  # tolerance for rounding
        if affordable == 0:
            raise ValueError(f"budget={budget:.6g} is out of range; pass {self.cost[0]:.6g} (a glance alone) or more")
        thresholds: np.ndarray = self.thresholds[affordable - 1]
        return thresholds


def best_thresholds(scores: np.ndarray, is_right: np.ndarray, costs: np.ndarray) -> ParetoFront:
    """Solves Eq. (7) by a grid search: the best combination of thresholds for every budget, on a grid of quantiles.

    Not in the paper, which uses the geometric distribution only. All combinations are evaluated at once, with
    cumulative histograms over the bins of the scores at each step: about a million combinations, that is 1,000
    quantiles for T = 3, 100 for T = 4 and 30 for T = 5.

    Args:
        scores: (N, T).
        is_right: (N, T) whether the prediction at each step is right.
        costs: (T,) cost of an image that exits at each step.

    Returns:
        The Pareto front.
    """
    total, num_steps = scores.shape
    levels = min(int(_GRID_CELLS ** (1.0 / (num_steps - 1))), 1000)
    edges = [_quantile_thresholds(scores[:, t], levels) for t in range(num_steps - 1)]
    bins = [np.searchsorted(edge, scores[:, t], side="right") for t, edge in enumerate(edges)]
    shape = tuple(len(edge) + 1 for edge in edges)
    cost, right = np.zeros(shape), np.zeros(shape)
    for step in range(num_steps):
        of_step = np.ones(total), is_right[:, step].astype(np.float64)
        counts, hits = (_leave_at(step, bins, shape, weights) for weights in of_step)
        cost += costs[step] / total * counts
        right += hits / total
    order = np.lexsort((-right.ravel(), cost.ravel()))
    accuracies = right.ravel()[order]
    is_best = accuracies > np.concatenate([[-1.0], np.maximum.accumulate(accuracies)[:-1]]) + 1e-12
    chosen = order[is_best]
    places = np.unravel_index(chosen, shape)
    with_ends = [np.concatenate([edge, [np.inf]]) for edge in edges]
    thresholds = np.stack([ends[place] for ends, place in zip(with_ends, places, strict=True)], axis=1)
    return ParetoFront(thresholds, right.ravel()[chosen], cost.ravel()[chosen])


def _quantile_thresholds(scores: np.ndarray, levels: int) -> np.ndarray:
    """At most `levels` thresholds at evenly spaced ranks, increasing; all images exit at the first."""
    ranked = np.sort(scores)
    chosen = np.unique(ranked[np.linspace(0, len(ranked) - 1, levels).astype(np.int64)])[1:]
    below = ranked[np.searchsorted(ranked, chosen, side="left") - 1]
    return np.concatenate([[-np.inf], _between(below, chosen)])


def _leave_at(step: int, bins: list[np.ndarray], shape: tuple[int, ...], weights: np.ndarray) -> np.ndarray:
    """Total weight of the images that exit at a step, for every combination of the thresholds up to that step.

    Index p on a step's axis stands for the threshold `edges[p]`: images in bins up to p stay, those in bins above exit.
    """
    used = bins[: step + 1]
    size = shape[: len(used)]
    table = np.bincount(np.ravel_multi_index(used, size), weights, int(np.prod(size))).reshape(size)
    for axis in range(len(used)):
        upto = np.cumsum(table, axis=axis)
        table = np.take(upto, [-1], axis=axis) - upto if axis == step else upto
    return table.reshape(*table.shape, *[1] * (len(shape) - len(used)))
