"""Adaptive inference as a function of evaluation records: thresholds for a budget, and what they give (Eq. (7)).

Thresholds are found on one record, of validation or training images, and judged on another. Budgets are multiply-adds
per image on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.evaluation.record import EvaluationRecord
from agents.evaluation.stopping import ExitFigures, ExitRule, exit_figures, exit_scores
from agents.evaluation.threshold_search import best_thresholds, quota_thresholds, shares_for_budget

METHODS = ("geometric", "grid_search")
"""How thresholds are found: the paper's geometric shares, or the most accurate ones on a fine grid for the budget."""


@dataclass(frozen=True)
class BudgetCurve:
    """What a way of leaving early gives, budget by budget.

    Attributes:
        budgets: (M,) multiply-adds per image that were allowed.
        costs: (M,) multiply-adds per image that were spent.
        accuracies: (M,) shares of right predictions.
        expected_lengths: (M,) average numbers of steps, E(t) of Fig. 15.
        exits: (M, T) share of the images that leaves at each step.
    """

    budgets: list[float]
    costs: list[float]
    accuracies: list[float]
    expected_lengths: list[float]
    exits: list[list[float]]


def fit_exit_rule(
    record: EvaluationRecord,
    budget: float,
    *,
    criterion: str = "confidence",
    method: str = "geometric",
    seed: int = 0,
) -> ExitRule:
    """Thresholds for a budget.

    Args:
        record: of validation or training images, never of those that the rule is judged on.
        budget: multiply-adds per image on average.
        criterion: one of `agents.evaluation.stopping.CRITERIA`.
        method: one of `METHODS`.
        seed: of the criterion `"random"`.

    Returns:
        The rule.

    Raises:
        ValueError: if the budget is out of range, or criterion or method are unknown.
    """
    return _rules(record, [budget], criterion, method, seed)[0]


def _rules(record: EvaluationRecord, budgets: list[float], criterion: str, method: str, seed: int) -> list[ExitRule]:
    scores = exit_scores(criterion, record.confidence, record.entropy, seed)
    shares = [shares_for_budget(record.multiply_adds, budget) for budget in budgets]
    if method == "geometric":
        found = [quota_thresholds(scores, share) for share in shares]
    elif method == "grid_search":
        front = best_thresholds(scores, _is_right(record), record.multiply_adds)
        found = [front.within(budget) for budget in budgets]
    else:
        raise ValueError(f"method={method!r} is unknown; pass one of {', '.join(METHODS)}")
    return [ExitRule(criterion, tuple(thresholds.tolist())) for thresholds in found]


def apply_exit_rule(record: EvaluationRecord, rule: ExitRule, *, seed: int = 1) -> ExitFigures:
    """What a rule gives on a record.

    Args:
        record: of the images to judge it on.
        rule: with as many thresholds as the record has steps, but one.
        seed: of the criterion `"random"`.

    Returns:
        The figures.

    Raises:
        ValueError: if the number of thresholds is another.
    """
    steps = len(record.multiply_adds)
    if len(rule.thresholds) != steps - 1:
        raise ValueError(f"{len(rule.thresholds)} thresholds for {steps} steps; pass {steps - 1}")
    scores = exit_scores(rule.criterion, record.confidence, record.entropy, seed)
    return exit_figures(scores, _is_right(record), record.multiply_adds, np.array(rule.thresholds))


def budget_curve(
    calibration: EvaluationRecord,
    record: EvaluationRecord,
    *,
    criterion: str = "confidence",
    method: str = "geometric",
    num_budgets: int = 25,
) -> BudgetCurve:
    """Budgeted batch classification from a glance alone to all steps (Figs. 7, 10 and 15).

    Args:
        calibration: the record that thresholds are found on.
        record: the record that they are judged on.
        criterion: one of `agents.evaluation.stopping.CRITERIA`.
        method: one of `METHODS`.
        num_budgets: how many budgets, evenly spaced.

    Returns:
        The curve.
    """
    costs = calibration.multiply_adds
    budgets = np.linspace(costs[0], costs[-1], num_budgets).tolist()
    rules = _rules(calibration, budgets, criterion, method, seed=0)
    figures = [apply_exit_rule(record, rule) for rule in rules]
    return BudgetCurve(
        budgets=budgets,
        costs=[figure.cost for figure in figures],
        accuracies=[figure.accuracy for figure in figures],
        expected_lengths=[figure.expected_length for figure in figures],
        exits=[figure.exits.tolist() for figure in figures],
    )


def cheapest_rule(calibration: EvaluationRecord, accuracy: float) -> ExitRule | None:
    """The cheapest thresholds on the confidence that reach an accuracy.

    Args:
        calibration: the record that they are found on.
        accuracy: the share of right predictions to reach there.

    Returns:
        The rule; None if no thresholds reach it.
    """
    front = best_thresholds(calibration.confidence, _is_right(calibration), calibration.multiply_adds)
    reached = np.flatnonzero(front.accuracy >= accuracy)
    if len(reached) == 0:
        return None
    return ExitRule("confidence", tuple(front.thresholds[reached[0]].tolist()))


def adaptive_figures(
    calibration: EvaluationRecord,
    record: EvaluationRecord,
    full_resolution: tuple[float, float] | None,
    full_resolution_cost: int | None,
) -> dict[str, Any]:
    """What `metrics.json` holds on adaptive inference.

    Args:
        calibration: the learned policy's record of the images that thresholds are found on.
        record: its record of the images that are reported on.
        full_resolution: accuracy of the full-resolution network on both; None if there is none.
        full_resolution_cost: its multiply-adds per image.

    Returns:
        `curves`, by criterion with the geometric shares, and `best`, with the most accurate thresholds on the
        confidence; `match`, the cheapest rule that is as accurate as the full-resolution network on the calibration
        images: its thresholds (0 lets everybody out, None nobody), what it gives on the reported ones, and how many
        times cheaper it is.
    """
    curves = {
        criterion: vars(budget_curve(calibration, record, criterion=criterion))
        for criterion in ("confidence", "entropy", "random")
    }
    curves["grid_search"] = vars(budget_curve(calibration, record, method="grid_search"))
    match = None
    if full_resolution is not None and full_resolution_cost is not None:
        rule = cheapest_rule(calibration, full_resolution[0])
        if rule is not None:
            figures = apply_exit_rule(record, rule)
            match = {
                "thresholds": [None if threshold == np.inf else max(threshold, 0.0) for threshold in rule.thresholds],
                "accuracy": figures.accuracy,
                "full_resolution_accuracy": full_resolution[1],
                "multiply_adds": figures.cost,
                "times_fewer": full_resolution_cost / figures.cost,
                "exits": figures.exits.tolist(),
            }
    return {"calibration_images": len(calibration.label), "curves": curves, "match": match}


def _is_right(record: EvaluationRecord) -> np.ndarray:
    is_right: np.ndarray = record.prediction == record.label[:, None]
    return is_right
