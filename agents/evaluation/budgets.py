"""Adaptive inference from evaluation records: thresholds for a budget, and their accuracy and cost (Eq. (7)).

Thresholds are fitted on one record, of validation or training images, and evaluated on another. A budget is an average
number of multiply-adds per image.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.evaluation.accuracy_bound import AccuracyBound
from agents.evaluation.coordinate_ascent import CoordinateAscent
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.stopping import CRITERIA, ExitFigures, ExitRule, HistoryTable, exit_scores
from agents.evaluation.threshold_search import check_budget, genetic_thresholds, quota_thresholds, shares_for_budget

METHODS = ("coordinate_ascent", "geometric", "genetic")
"""How thresholds are found: by exact scans of one after another; by the paper's geometric distribution of exits, for
one patch size; or by the paper's genetic algorithm, which needs pymoo."""


@dataclass(frozen=True)
class BudgetCurve:
    """Accuracy and cost of early exits for several budgets.

    Attributes:
        budgets: (M,) allowed multiply-adds per image.
        costs: (M,) multiply-adds per image that were used.
        accuracies: (M,) in [0, 1].
        expected_lengths: (M,) average numbers of steps, E(t) of Fig. 15.
        exits: (M, T) fraction of the images that exits at each step.
        size_shares: (M, K) fraction of the focus patches that have each size (Fig. 17).
        bounds: (M,) accuracies that no thresholds exceed on these images for what was used.
    """

    budgets: list[float]
    costs: list[float]
    accuracies: list[float]
    expected_lengths: list[float]
    exits: list[list[float]]
    size_shares: list[list[float]]
    bounds: list[float]


def fit_exit_rule(
    record: EvaluationRecord,
    budget: float,
    *,
    criterion: str = "confidence",
    method: str = "coordinate_ascent",
    seed: int = 0,
) -> ExitRule:
    """Fits thresholds to a budget.

    Args:
        record: of validation or training images, never of those that the rule is evaluated on.
        budget: average multiply-adds per image.
        criterion: one of `agents.evaluation.stopping.CRITERIA`.
        method: one of `METHODS`.
        seed: of the criterion `"random"`.

    Returns:
        A rule with T - 1 thresholds for each patch size.

    Raises:
        ImportError: if the method is `"genetic"` and pymoo is not installed.
        ValueError: if the budget is out of range, criterion or method are unknown, or the method is geometric and there
            are several patch sizes.
    """
    return _rules(history_table(record, criterion, seed), [budget], criterion, method)[0]


def _rules(
    table: HistoryTable, budgets: list[float], criterion: str, method: str, search: CoordinateAscent | None = None
) -> list[ExitRule]:
    """Budgets in ascending order, so that a larger one never gives less; `search` is one of the same table."""
    for budget in budgets:
        check_budget(table.multiply_adds, budget)
    found: list[np.ndarray]
    if method == "coordinate_ascent":
        search = search or CoordinateAscent(table)
        found = [search.within(budget).thresholds for budget in budgets]
    elif method == "genetic":
        found = [genetic_thresholds(table, budget) for budget in budgets]
    elif method != "geometric":
        raise ValueError(f"method={method!r} is unknown; pass one of {', '.join(METHODS)}")
    elif table.num_sizes > 1:
        raise ValueError("method='geometric' is for one patch size; pass coordinate_ascent or genetic for several")
    else:
        found = [quota_thresholds(table.scores, shares_for_budget(table.multiply_adds, budget)) for budget in budgets]
    return [ExitRule(criterion, thresholds) for thresholds in found]


def history_table(record: EvaluationRecord, criterion: str = "confidence", seed: int = 0) -> HistoryTable:
    """The part of a record that thresholds depend on.

    Args:
        record: of any images.
        criterion: one of `agents.evaluation.stopping.CRITERIA`.
        seed: of the criterion `"random"`.

    Returns:
        The table. Half of an image's credit is for being right, half is the probability of its label, which says how
            nearly it was right or wrong: thresholds that are found so are more accurate on other images
            (docs/stopping.md).

    Raises:
        ValueError: if there is no such criterion, or a score is not a number.
    """
    scores = exit_scores(criterion, record.confidence, record.entropy, seed)
    is_right = record.prediction == record.label[:, None]
    credit = (is_right + record.label_probability.astype(np.float64)) / 2
    return HistoryTable(scores, is_right, record.multiply_adds, len(record.patch_sizes), credit)


def apply_exit_rule(record: EvaluationRecord, rule: ExitRule, *, seed: int = 1) -> ExitFigures:
    """Accuracy and cost of a rule on a record.

    Args:
        record: of the images to evaluate it on.
        rule: for the record's number of steps and patch sizes.
        seed: of the criterion `"random"`.

    Returns:
        The figures.

    Raises:
        ValueError: if the thresholds are for another number of steps or patch sizes.
    """
    return history_table(record, rule.criterion, seed).figures(rule.thresholds)


def budget_curve(
    calibration: EvaluationRecord,
    record: EvaluationRecord,
    *,
    criterion: str = "confidence",
    method: str = "coordinate_ascent",
    num_budgets: int = 25,
    search: CoordinateAscent | None = None,
) -> BudgetCurve:
    """Budgeted batch classification, from the glance alone to all steps (Figs. 7, 10 and 15).

    Args:
        calibration: the record that thresholds are fitted on.
        record: the record that they are evaluated on.
        criterion: one of `agents.evaluation.stopping.CRITERIA`.
        method: one of `METHODS`.
        num_budgets: number M of budgets, evenly spaced.
        search: of the method `"coordinate_ascent"`, on the calibration's table; None begins a new one.

    Returns:
        M points.
    """
    costs = calibration.multiply_adds
    budgets = np.linspace(costs[0], costs.max(), num_budgets).tolist()
    rules = _rules(history_table(calibration, criterion), budgets, criterion, method, search)
    figures = [apply_exit_rule(record, rule) for rule in rules]
    bound = AccuracyBound(history_table(record, criterion, seed=1))
    return BudgetCurve(
        budgets=budgets,
        costs=[figure.cost for figure in figures],
        accuracies=[figure.accuracy for figure in figures],
        expected_lengths=[figure.expected_length for figure in figures],
        exits=[figure.exits.tolist() for figure in figures],
        size_shares=[figure.size_shares.tolist() for figure in figures],
        bounds=[bound.at(figure.cost) for figure in figures],
    )


def fixed_lengths(
    calibration: EvaluationRecord, record: EvaluationRecord, search: CoordinateAscent | None = None
) -> list[dict[str, Any]]:
    """Episodes of exactly 1, ..., T steps, beside early exits within what they cost.

    Args:
        calibration: the record that thresholds are fitted on.
        record: the record that both are evaluated on. With several patch sizes, all patches of a fixed length are of
            the largest.
        search: on the calibration's table of confidences; None begins a new one.

    Returns:
        For each number of steps: `steps`, `multiply_adds` per image and `accuracy`; and `early_exits`, the accuracy and
        multiply-adds of the most accurate thresholds for a budget of those multiply-adds.
    """
    nodes = record.largest_patches
    costs = [int(record.multiply_adds[node]) for node in nodes]
    budgets = [float(cost) for cost in costs]
    rules = _rules(history_table(calibration), budgets, "confidence", "coordinate_ascent", search)
    found = []
    for steps, (node, cost, rule) in enumerate(zip(nodes, costs, rules, strict=True), start=1):
        exits = apply_exit_rule(record, rule)
        found.append(
            {
                "steps": steps,
                "multiply_adds": cost,
                "accuracy": float((record.prediction[:, node] == record.label).mean()),
                "early_exits": {"accuracy": exits.accuracy, "multiply_adds": exits.cost},
            }
        )
    return found


def cheapest_rule(calibration: EvaluationRecord, accuracy: float, num_kicks: int | None = None) -> ExitRule | None:
    """The cheapest confidence thresholds that reach an accuracy in [0, 1] on a record; None if none do.

    Args:
        calibration: the record that they are fitted on.
        accuracy: to reach on that record, in [0, 1].
        num_kicks: as in `CoordinateAscent`.

    Returns:
        The rule; None if no thresholds reach the accuracy.
    """
    right_images_alone = dataclasses.replace(history_table(calibration), credit=None)
    solution = CoordinateAscent(right_images_alone, num_kicks).cheapest(accuracy)
    return None if solution is None else ExitRule("confidence", solution.thresholds)


def adaptive_figures(
    calibration: EvaluationRecord,
    record: EvaluationRecord,
    full_resolution: tuple[float, float] | None,
    full_resolution_cost: int | None,
) -> dict[str, Any]:
    """The entry `adaptive` of `metrics.json`.

    Args:
        calibration: the learned policy's record of the images that thresholds are fitted on.
        record: its record of the images that are reported on.
        full_resolution: accuracy of the full-resolution network on both; None if there is none.
        full_resolution_cost: its multiply-adds per image.

    Returns:
        `curves`: by criterion, the fields of a `BudgetCurve` with the geometric distribution of exits, and
        `coordinate_ascent`, for the confidence with the thresholds that it finds. With several patch sizes there is no
        such distribution, and the criteria's curves are of coordinate ascent. `patch_sizes`: the K sides of patches,
        ascending, which `size_shares` are of. `fixed_lengths`: what that function returns. `match`: the cheapest rule
        that is as accurate as the full-resolution network on the calibration images, with its thresholds, a row for
        each step (0 means that all images exit, None that none do), its figures on the reported images, and how many
        times cheaper it is; None if there is none.
    """
    # without kicks for several sizes, where they take longer than everything else here
    num_kicks = None if len(calibration.patch_sizes) == 1 else 0
    search = CoordinateAscent(history_table(calibration), num_kicks)
    curves: dict[str, BudgetCurve] = {}
    if len(calibration.patch_sizes) == 1:
        for criterion in CRITERIA:
            curves[criterion] = budget_curve(calibration, record, criterion=criterion, method="geometric")
        curves["coordinate_ascent"] = budget_curve(calibration, record, search=search)
    else:
        for criterion in CRITERIA:
            table = history_table(calibration, criterion)
            own = search if criterion == "confidence" else CoordinateAscent(table, num_kicks)
            curves[criterion] = budget_curve(calibration, record, criterion=criterion, search=own)
    match = None
    if full_resolution is not None and full_resolution_cost is not None:
        rule = cheapest_rule(calibration, full_resolution[0], num_kicks)
        if rule is not None:
            match = _match(apply_exit_rule(record, rule), rule, full_resolution[1], full_resolution_cost)
    return {
        "calibration_images": len(calibration.label),
        "patch_sizes": list(calibration.patch_sizes),
        "curves": {name: vars(curve) for name, curve in curves.items()},
        "fixed_lengths": fixed_lengths(calibration, record, search),
        "match": match,
    }


def _match(figures: ExitFigures, rule: ExitRule, accuracy: float, cost: int) -> dict[str, Any]:
    return {
        "thresholds": [
            [None if threshold == np.inf else max(threshold, 0.0) for threshold in row]
            for row in rule.thresholds.tolist()
        ],
        "accuracy": figures.accuracy,
        "full_resolution_accuracy": accuracy,
        "multiply_adds": figures.cost,
        "times_fewer": cost / figures.cost,
        "exits": figures.exits.tolist(),
    }
