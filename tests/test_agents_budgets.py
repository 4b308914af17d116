"""Rules for a budget, budget curves, and what a run's metrics hold of early exits, without networks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from records import make_record, random_table, record_of

from agents.evaluation import budgets
from agents.evaluation.budgets import (
    adaptive_figures,
    apply_exit_rule,
    budget_curve,
    cheapest_rule,
    fit_exit_rule,
    fixed_lengths,
)
from agents.evaluation.coordinate_ascent import CoordinateAscent
from agents.evaluation.metrics import accuracy_by_step
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.stopping import ExitRule, HistoryTable


def _synthetic_record(seed: int, count: int = 2000) -> EvaluationRecord:
    """Ten classes; confidence tells how often the prediction is right, entropy a little less so."""
    rng = np.random.default_rng(seed)
    confidence = np.sort(rng.uniform(0.1, 1.0, (count, 4)), axis=1).astype(np.float32)
    is_right = rng.random((count, 4)) < confidence
    return make_record(
        confidence,
        prediction=np.where(is_right, 0, 1),
        entropy=(1 - confidence + rng.normal(0, 0.2, confidence.shape)).astype(np.float32),
        label_probability=confidence,
        multiply_adds=np.array([10, 30, 50, 70]),
    )


def test_budget_curves_rank_the_criteria_as_table_7_does() -> None:
    calibration, record = _synthetic_record(0), _synthetic_record(1)

    curves = {
        criterion: budget_curve(calibration, record, criterion=criterion, method="geometric", num_budgets=9)
        for criterion in ("confidence", "entropy", "random")
    }
    best = budget_curve(calibration, record, method="coordinate_ascent", num_budgets=9)

    inner = slice(2, 7)
    confidence, entropy, chance = (np.array(curves[name].accuracies)[inner] for name in curves)
    assert (confidence > entropy).all() and (entropy > chance).all()
    assert (np.array(best.accuracies)[inner] > confidence - 0.02).all()
    for curve in (*curves.values(), best):
        assert np.allclose(curve.costs, np.array(curve.exits) @ record.multiply_adds)
        assert np.abs(np.array(curve.costs) - curve.budgets).max() < 3  # on other images, but alike
        assert (np.array(curve.accuracies) <= curve.bounds).all()
        assert curve.size_shares[0] == [0.0] and curve.size_shares[-1] == [1.0]


def test_cheapest_rule_reaches_the_accuracy_or_says_that_none_does() -> None:
    record = _synthetic_record(0)
    whole = apply_exit_rule(record, ExitRule("confidence", np.full(3, np.inf)))

    rule = cheapest_rule(record, whole.accuracy - 0.05)

    assert rule is not None
    figures = apply_exit_rule(record, rule)
    assert figures.accuracy >= whole.accuracy - 0.05 and figures.cost < whole.cost
    assert cheapest_rule(record, 1.1) is None


def test_rules_that_can_not_be() -> None:
    record = _synthetic_record(0, 40)
    with pytest.raises(ValueError, match="thresholds"):
        apply_exit_rule(record, ExitRule("confidence", np.array([0.5, 0.5])))
    with pytest.raises(ValueError, match="method='luck'"):
        fit_exit_rule(record, 40.0, method="luck")
    with pytest.raises(ValueError, match="method='geometric' is for one patch size"):
        fit_exit_rule(record_of(random_table(40, 3, 2)), 20.0, method="geometric")


def test_fixed_lengths_stand_beside_early_exits_within_their_cost() -> None:
    calibration, record = _synthetic_record(0), _synthetic_record(1)

    found = fixed_lengths(calibration, record)

    assert [each["steps"] for each in found] == [1, 2, 3, 4]
    assert [each["multiply_adds"] for each in found] == record.multiply_adds.tolist()
    assert [each["accuracy"] for each in found] == accuracy_by_step(record)
    assert found[0]["early_exits"] == {"accuracy": found[0]["accuracy"], "multiply_adds": record.multiply_adds[0]}
    for each in found[1:3]:
        assert each["early_exits"]["accuracy"] > each["accuracy"]
        assert each["early_exits"]["multiply_adds"] == pytest.approx(each["multiply_adds"], rel=0.05)


@pytest.mark.parametrize(("sizes", "searches"), [(1, 2), (3, 4)])
def test_the_figures_of_a_run_search_each_table_once(
    sizes: int, searches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One search of the confidences serves the curve and the fixed lengths; the match counts right images alone."""
    table = random_table(60, 3, sizes)
    record = record_of(table, label_probability=table.is_right.astype(np.float32))
    begun: list[HistoryTable] = []

    class Counted(CoordinateAscent):
        def __init__(self, table: HistoryTable, num_kicks: int | None = None) -> None:
            begun.append(table)
            super().__init__(table, num_kicks)

    monkeypatch.setattr(budgets, "CoordinateAscent", Counted)
    reachable = float(table.is_right[:, -1].mean())
    found = adaptive_figures(record, record, (reachable, reachable), 10**9)

    assert len(begun) == searches
    assert found["match"]["accuracy"] >= reachable
    for each in found["fixed_lengths"]:
        assert each["early_exits"]["multiply_adds"] <= each["multiply_adds"] * (1 + 1e-9)
    best = found["curves"]["coordinate_ascent" if sizes == 1 else "confidence"]["accuracies"]
    assert best == sorted(best)


def test_the_rule_that_matches_the_full_resolution_network_is_written_whole() -> None:
    record = record_of(random_table(60, 3, 1))
    sure = dataclasses.replace(record, prediction=np.zeros_like(record.prediction))

    match = adaptive_figures(sure, record, (0.5, 0.5), 10**9)["match"]

    assert match["exits"] == [1.0, 0.0, 0.0]
    assert match["thresholds"][0] == [0.0]  # all images exit
    assert match["times_fewer"] == pytest.approx(1e9 / record.multiply_adds[0])
    assert adaptive_figures(record, record, (1.1, 1.1), 10**9)["match"] is None
