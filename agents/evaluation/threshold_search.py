"""Thresholds for a budget (Eq. (7), Section 3.4): from the paper's geometric distribution, and by a grid search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_GRID_CELLS = 1 << 20  # combinations of thresholds that `best_thresholds` looks at, at most


def geometric_shares(ratio: float, num_steps: int) -> np.ndarray:
    """The share of images that leaves at each step, q_t = z (1 - q)^(t-1) q with 1 - q = `ratio`.

    Args:
        ratio: share of a step over that of the step before, 0 or more. Above 1 more images leave late than early, which
            budgets above the middle need; the paper's 0 < q < 1 stops at the uniform distribution.
        num_steps: T.

    Returns:
        (T,) shares that add up to 1.
    """
    exponents = np.arange(num_steps) if ratio <= 1.0 else np.arange(num_steps) - (num_steps - 1)
    weights = np.power(float(ratio), exponents)
    shares: np.ndarray = weights / weights.sum()
    return shares


def shares_for_budget(costs: np.ndarray, budget: float) -> np.ndarray:
    """The geometric shares whose average cost is the budget.

    Args:
        costs: (T,) what it costs to leave at each step, rising.
        budget: average cost per image, from that of the first step to that of the last.

    Returns:
        (T,) shares.

    Raises:
        ValueError: if the budget is out of reach or more than needed.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if not costs[0] <= budget <= costs[-1]:
        raise ValueError(
            f"budget={budget:.6g} is out of range; pass {costs[0]:.6g} (a glance alone) to {costs[-1]:.6g} (all "
            f"{len(costs)} steps)"
        )
    low, high = 0.0, 1.0  # of ratio / (1 + ratio), which covers all ratios
    for _ in range(50):
        middle = (low + high) / 2
        if geometric_shares(middle / (1.0 - middle), len(costs)) @ costs <= budget:
            low = middle
        else:
            high = middle
    return geometric_shares(low / (1.0 - low), len(costs))


def quota_thresholds(scores: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Thresholds that let each step's share of the images out, those with the highest scores.

    Where several images tie for the last place none of them leaves, so no step ever lets out more than its quota; they
    may leave at the next step, whose quota what was left open is added to.

    Args:
        scores: (N, T).
        shares: (T,) shares that add up to 1.

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
        stays = here < thresholds[step]
        left += len(here) - int(stays.sum())
        waiting = waiting[stays]
    return thresholds


def _highest(scores: np.ndarray, count: int) -> float:
    """A threshold that at most `count` of the scores reach, as many as can."""
    if count <= 0 or len(scores) == 0:
        return np.inf
    if count >= len(scores):
        return -np.inf
    bound = np.partition(scores, len(scores) - count - 1)[len(scores) - count - 1]  # the highest that must stay
    above = scores[scores > bound]
    return float(_between(bound, above.min())) if len(above) else np.inf


def _between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Halfway between neighbours, so that the last digits of a score decide nothing; `high` if there is no room."""
    middle = (np.float64(low) + np.float64(high)) / 2
    return np.where(middle > low, middle, high)


@dataclass(frozen=True)
class ParetoFront:
    """Thresholds of which none is both cheaper and more accurate than another, on the record that they were found on.

    Attributes:
        thresholds: (M, T - 1).
        accuracy: (M,) rising.
        cost: (M,) average cost per image, rising.
    """

    thresholds: np.ndarray
    accuracy: np.ndarray
    cost: np.ndarray

    def within(self, budget: float) -> np.ndarray:
        """The thresholds of the highest accuracy that the budget allows.

        Args:
            budget: average cost per image.

        Returns:
            (T - 1,) thresholds.

        Raises:
            ValueError: if even the cheapest cost more.
        """
        affordable = int(np.searchsorted(self.cost, budget * (1.0 + 1e-9), side="right"))  # averages are rounded
        if affordable == 0:
            raise ValueError(f"budget={budget:.6g} is out of range; pass {self.cost[0]:.6g} (a glance alone) or more")
        thresholds: np.ndarray = self.thresholds[affordable - 1]
        return thresholds


def best_thresholds(scores: np.ndarray, is_right: np.ndarray, costs: np.ndarray) -> ParetoFront:
    """Solves Eq. (7) directly: all combinations of thresholds on a grid of quantiles, and the best of them per budget.

    Not in the paper, which restricts itself to the geometric shares. Every combination is counted at once, by
    cumulative histograms over the bins that the images' scores fall into at each step: about a million combinations, so
    1,000 quantiles for T = 3, 100 for T = 4, 30 for T = 5.

    Args:
        scores: (N, T).
        is_right: (N, T) whether the prediction at each step is right.
        costs: (T,) what it costs to leave at each step.

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
    """At most `levels` thresholds at evenly spaced ranks, rising; the first lets everybody out."""
    ranked = np.sort(scores)
    chosen = np.unique(ranked[np.linspace(0, len(ranked) - 1, levels).astype(np.int64)])[1:]
    below = ranked[np.searchsorted(ranked, chosen, side="left") - 1]
    return np.concatenate([[-np.inf], _between(below, chosen)])


def _leave_at(step: int, bins: list[np.ndarray], shape: tuple[int, ...], weights: np.ndarray) -> np.ndarray:
    """Weight of the images that leave at a step, for every combination of thresholds, as far as it depends on them.

    Place p of a step's axis stands for the threshold `edges[p]`: bins up to p stay, bins above it leave.
    """
    used = bins[: step + 1]
    size = shape[: len(used)]
    table = np.bincount(np.ravel_multi_index(used, size), weights, int(np.prod(size))).reshape(size)
    for axis in range(len(used)):
        upto = np.cumsum(table, axis=axis)
        table = np.take(upto, [-1], axis=axis) - upto if axis == step else upto
    return table.reshape(*table.shape, *[1] * (len(shape) - len(used)))
