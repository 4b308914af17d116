"""Thresholds for a budget by the paper's geometric distribution of exits (Eq. (7), Section 3.4), for one patch size."""

from __future__ import annotations

import numpy as np

BUDGET_TOLERANCE = 1e-9
"""What a cost may exceed a budget by, as a fraction of it: rounding."""


def check_budget(costs: np.ndarray, budget: float) -> None:
    """Refuses budgets that no thresholds could use.

    Args:
        costs: (nodes,) cost of an image that exits at each node.
        budget: average cost per image.

    Raises:
        ValueError: if the budget is less than the glance costs, or more than the dearest node.
    """
    low, high = float(costs[0]), float(np.max(costs))
    if not low * (1.0 - BUDGET_TOLERANCE) <= budget <= high * (1.0 + BUDGET_TOLERANCE):
        raise ValueError(
            f"budget={budget:.6g} is out of range; pass {low:.6g} (a glance alone) to {high:.6g} (all steps)"
        )


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
    check_budget(costs, budget)
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
    return float(between(bound, above.min())) if len(above) else np.inf


def between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Halfway between neighbours, so that rounding errors don't matter; `low` if there is nothing between."""
    middle = (np.float64(low) + np.float64(high)) / 2
    return np.where(middle < high, middle, low)
