"""Adaptive inference from evaluation records: thresholds for a budget, and their accuracy and cost (Eq. (7)).

Thresholds are fitted on one record, of validation or training images, and evaluated on another. A budget is an average
number of multiply-adds per image.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.evaluation.accuracy_bound import AccuracyBound
from agents.evaluation.coordinate_ascent import CoordinateAscent
from agents.evaluation.genetic_search import genetic_thresholds
from agents.evaluation.history_table import HistoryTable
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.stopping import CRITERIA, ExitFigures, ExitRule, exit_scores
from agents.evaluation.threshold_search import check_budget, quota_thresholds, shares_for_budget

METHODS = ("coordinate_ascent", "geometric", "genetic")
"""How thresholds are found: by exact scans of one after another; by the paper's geometric distribution of exits, for
one patch size; or by the paper's genetic algorithm, which needs pymoo."""

_FORMER_METHODS = {"best": "coordinate_ascent", "grid_search": "coordinate_ascent"}


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


def present_method(method: str) -> str:
    """The present name of a method that was given a former one, with a warning; any other name as it is.

    Args:
        method: one of `METHODS`, or what one of them was called.

    Returns:
        The name, unchecked.
    """
    present = _FORMER_METHODS.get(method, method)
    if present != method:
        warnings.warn(f"method={method!r} is now called {present!r}; pass that", DeprecationWarning, stacklevel=2)
    return present


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
    method = present_method(method)
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
    return [ExitRule.of(criterion, thresholds) for thresholds in found]


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
        rule: with a row for each step but the last, of a threshold for each patch size.
        seed: of the criterion `"random"`.

    Returns:
        See `ExitFigures`.

    Raises:
        ValueError: if the number of thresholds does not fit.
    """
    thresholds = rule.array(record.num_steps, len(record.patch_sizes))
    return history_table(record, rule.criterion, seed).figures(thresholds)


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
        See `BudgetCurve`.
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
    """The cheapest confidence thresholds that reach an accuracy.

    Args:
        calibration: the record that they are fitted on.
        accuracy: to reach on that record, in [0, 1].
        num_kicks: see `CoordinateAscent`.

    Returns:
        The rule; None if no thresholds reach it.
    """
    right_images_alone = dataclasses.replace(history_table(calibration), credit=None)
    solution = CoordinateAscent(right_images_alone, num_kicks).cheapest(accuracy)
    return None if solution is None else ExitRule.of("confidence", solution.thresholds)


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
        `curves`: a `BudgetCurve` for each criterion, by name, with the geometric distribution of exits, and
        `coordinate_ascent`, for the confidence with the thresholds that it finds. With several patch sizes there is no
        such distribution, and the criteria's curves are of the most accurate thresholds. `patch_sizes`: the K sides of
        patches, ascending, which each curve's `size_shares` are of. `fixed_lengths`: what the function of this name
        makes. `match`: the cheapest rule
        that is as accurate as the full-resolution network on the calibration images, with its thresholds, a row for
        each step (0 means that all images exit, None that none do), its figures on the
        reported images, and how many times cheaper it is; None if there is none.
    """
    if len(calibration.patch_sizes) == 1:
        search = CoordinateAscent(history_table(calibration))
        rules: dict[str, tuple[str, str, CoordinateAscent | None]]
        rules = {criterion: ("geometric", criterion, None) for criterion in CRITERIA}
        rules["coordinate_ascent"] = ("coordinate_ascent", "confidence", search)
        num_kicks = None
    else:  # without kicks, which take longer than everything else here
        num_kicks = 0
        searches = {name: CoordinateAscent(history_table(calibration, name), num_kicks) for name in CRITERIA}
        search = searches["confidence"]
        rules = {name: ("coordinate_ascent", name, each) for name, each in searches.items()}
    curves = {
        name: vars(budget_curve(calibration, record, criterion=criterion, method=method, search=each))
        for name, (method, criterion, each) in rules.items()
    }
    match = None
    if full_resolution is not None and full_resolution_cost is not None:
        rule = cheapest_rule(calibration, full_resolution[0], num_kicks)
        if rule is not None:
            figures = apply_exit_rule(record, rule)
            match = {
                "thresholds": [
                    [None if threshold == np.inf else max(threshold, 0.0) for threshold in row]
                    for row in rule.thresholds
                ],
                "accuracy": figures.accuracy,
                "full_resolution_accuracy": full_resolution[1],
                "multiply_adds": figures.cost,
                "times_fewer": full_resolution_cost / figures.cost,
                "exits": figures.exits.tolist(),
            }
    return {
        "calibration_images": len(calibration.label),
        "patch_sizes": list(calibration.patch_sizes),
        "curves": curves,
        "fixed_lengths": fixed_lengths(calibration, record, search),
        "match": match,
    }
