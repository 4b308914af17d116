"""The front of early exits as data for the slider of the report's page."""

from __future__ import annotations

from typing import Any

_KEPT = ("budgets", "costs", "accuracies", "expected_lengths", "exits")


def budget_front(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """What a run's most accurate thresholds give for each of some budgets, as the evaluation computed it.

    Args:
        metrics: of a run.

    Returns:
        Of `agents.evaluation.budgets.BudgetCurve`: `budgets`, `costs`, `accuracies`, `expected_lengths` and `exits`;
        and `full_resolution`, the multiply-adds and the accuracy of that network, None without one. None if no
        thresholds were found for the run.
    """
    adaptive = metrics.get("adaptive")
    if not adaptive:
        return None
    curves = adaptive["curves"]
    curve = curves.get("coordinate_ascent", curves["confidence"])  # with several patch sizes, these are the best ones
    accuracy = metrics["full_resolution_accuracy"]
    whole = None if accuracy is None else {"cost": metrics["multiply_adds"]["full_resolution"], "accuracy": accuracy}
    return {**{key: curve[key] for key in _KEPT}, "full_resolution": whole}
