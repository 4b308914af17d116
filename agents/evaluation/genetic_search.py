"""Thresholds for a budget (Eq. (7)) by a genetic algorithm, as Section 4.2 has it, with the library pymoo.

The paper gives no details. Here a gene is a quantile of the scores at its step, so that mutations move similar numbers
of images wherever the scores lie; solutions within the budget come before all others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.evaluation.history_table import HistoryTable
from agents.evaluation.threshold_search import BUDGET_TOLERANCE, check_budget


def genetic_thresholds(
    table: HistoryTable, budget: float, *, population: int = 100, generations: int = 100, seed: int = 0
) -> np.ndarray:
    """The thresholds with the most credit within a budget that the genetic algorithm finds.

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
        raise ImportError(
            "method='genetic' needs pymoo; run pip install 'gfnet-gym[search]', or pass method='coordinate_ascent'"
        ) from error
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
    first[0] = 0.0  # everybody exits at the glance: within every budget
    problem = Thresholds(n_var=steps * sizes, n_obj=1, n_ieq_constr=1, xl=0.0, xu=1.0)
    algorithm = GA(pop_size=population, sampling=first)
    found = minimize(problem, algorithm, ("n_gen", generations), seed=seed, verbose=False)
    return thresholds_of(found.X)


def _quantiles(ranked: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Scores at fractions of the way up; infinite at both ends, so that all images can exit, or none."""
    chosen = ranked[np.minimum((fractions * len(ranked)).astype(np.int64), len(ranked) - 1)].astype(np.float64)
    return np.where(fractions <= 0.0, -np.inf, np.where(fractions >= 1.0, np.inf, chosen))
