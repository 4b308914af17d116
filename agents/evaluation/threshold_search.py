"""The paper's ways to find thresholds for a budget (Eq. (7)).

A geometric distribution of exits for one patch size (Section 3.4), and a genetic algorithm for several (Section 4.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.evaluation.stopping import HistoryTable

BUDGET_TOLERANCE = 1e-9
"""What a cost may exceed a budget by, as a fraction of it: rounding."""


def check_budget(costs: np.ndarray, budget: float) -> None:
    """Raises ValueError if a budget is less than the glance costs, or more than the most expensive node."""
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
    last = len(scores) - count - 1
    bound = np.partition(scores, last)[last]  # the highest that must not exceed it
    above = scores[scores > bound]
    return float(between(bound, above.min())) if len(above) else np.inf


def between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Halfway between neighbors, so that rounding errors don't matter; `low` if there is nothing between."""
    middle = (np.float64(low) + np.float64(high)) / 2
    return np.where(middle < high, middle, low)


def genetic_thresholds(
    table: HistoryTable, budget: float, *, population: int = 100, generations: int = 100, seed: int = 0
) -> np.ndarray:
    """The thresholds with the most credit within a budget that a genetic algorithm finds, as in Section 4.2.

    The paper gives no details. Here a gene is a quantile of the scores at its step, so that mutations move similar
    numbers of images wherever the scores lie; solutions within the budget come before all others. Needs pymoo.

    Args:
        table: of the calibration images.
        budget: average multiply-adds per image.
        population: solutions in a generation.
        generations: number of generations.
        seed: of the algorithm's random numbers.

    Returns:
        (T - 1, K) thresholds, within the budget.

    Raises:
        ImportError: if pymoo is not installed.
        ValueError: if the budget is out of range.
    """
    check_budget(table.multiply_adds, budget)
    try:
        from pymoo.algorithms.soo.nonconvex.ga import GA
        from pymoo.core.problem import Problem
        from pymoo.optimize import minimize
    except ImportError as error:
        raise ImportError("method='genetic' needs pymoo; run pip install 'gfnet-gym[search]'") from error
    steps, sizes = table.num_steps - 1, table.num_sizes
    ranked = [np.sort(scores, axis=None) for scores in table.scores_by_step()[:-1]]

    def thresholds_of(genes: np.ndarray) -> np.ndarray:
        return np.stack(
            [_quantiles(scores, row) for scores, row in zip(ranked, genes.reshape(steps, sizes), strict=True)]
        )

    class Thresholds(Problem):  # type: ignore[misc]  # pymoo has no types
        def _evaluate(self, genes: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            found = np.array([table.credit_and_cost(thresholds_of(individual)) for individual in genes])
            out["F"] = -found[:, :1]
            out["G"] = found[:, 1:] / budget - 1.0 - BUDGET_TOLERANCE

    first = np.random.default_rng(seed).random((population, steps * sizes))
    first[0] = 0.0  # all images exit at the glance: within every budget
    problem = Thresholds(n_var=steps * sizes, n_obj=1, n_ieq_constr=1, xl=0.0, xu=1.0)
    algorithm = GA(pop_size=population, sampling=first)
    found = minimize(problem, algorithm, ("n_gen", generations), seed=seed, verbose=False)
    return thresholds_of(found.X)


def _quantiles(ranked: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Scores at fractions of the way up; infinite at both ends, so that all images can exit, or none."""
    chosen = ranked[np.minimum((fractions * len(ranked)).astype(np.int64), len(ranked) - 1)].astype(np.float64)
    return np.where(fractions <= 0.0, -np.inf, np.where(fractions >= 1.0, np.inf, chosen))
