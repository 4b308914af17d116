from __future__ import annotations

import dataclasses
import itertools
import sys

import numpy as np
import pytest
from records import random_table, record_of

from agents.evaluation.accuracy_bound import AccuracyBound
from agents.evaluation.budgets import history_table
from agents.evaluation.coordinate_ascent import CoordinateAscent, ScoreIntervals, Solution
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.stopping import HistoryTable
from agents.evaluation.threshold_search import genetic_thresholds


def _every_solution(table: HistoryTable) -> np.ndarray:
    """(M, 2) cost and credit of all images together, of all thresholds that differ in what they do."""
    first, rows = 0, []
    for step in range(table.num_steps - 1):
        nodes = table.num_sizes**step
        observed = np.unique(table.scores[:, first : first + nodes]).astype(np.float64)
        cuts = [-np.inf, *((observed[1:] + observed[:-1]) / 2), np.inf]
        rows.append([np.array(row) for row in itertools.product(cuts, repeat=table.num_sizes)])
        first += nodes
    found = np.array([table.credit_and_cost(np.stack(thresholds)) for thresholds in itertools.product(*rows)])
    return np.stack([found[:, 1], found[:, 0] * len(table.scores)], axis=1)


def _budgets(table: HistoryTable, count: int) -> np.ndarray:
    return np.linspace(table.multiply_adds[0], table.multiply_adds.max(), count)


def _with_credit(table: HistoryTable, seed: int = 0) -> HistoryTable:
    """The table with an image's score for half of its credit, and noise."""
    noise = np.random.default_rng(seed).random(table.scores.shape)
    return dataclasses.replace(table, credit=(2 * table.is_right + table.scores + noise) / 4)


def _check(table: HistoryTable, solution: Solution, budget: float) -> None:
    """A solution says what its thresholds give, and keeps to the budget."""
    figures, credit = table.figures(solution.thresholds), table.credit_and_cost(solution.thresholds)[0]
    assert (credit, figures.cost) == (solution.credit, pytest.approx(solution.cost, rel=1e-12))
    assert table.credit is not None or figures.accuracy == solution.credit
    assert figures.cost <= budget * (1 + 1e-9)


@pytest.mark.parametrize(("count", "steps", "sizes"), [(12, 3, 1), (7, 2, 3), (12, 2, 2), (4, 3, 2)])
def test_coordinate_ascent_finds_the_best_of_all_combinations(count: int, steps: int, sizes: int) -> None:
    missed = total = 0
    for seed in range(3):
        table = random_table(count, steps, sizes, seed)
        every = _every_solution(table)
        search, bound = CoordinateAscent(table), AccuracyBound(table)
        for budget in _budgets(table, 5):
            best = round(every[every[:, 0] <= budget * (1 + 1e-9), 1].max())
            solution = search.within(budget)
            _check(table, solution, budget)
            found = round(solution.credit * count)
            assert best - 1 <= found <= best <= round(bound.at(budget) * count)
            missed, total = missed + (found < best), total + 1
    assert missed <= 0.08 * total  # the search may end a single image below the optimum


@pytest.mark.parametrize(("count", "steps", "sizes"), [(12, 3, 1), (7, 2, 3), (4, 3, 2)])
def test_the_most_credit_of_all_combinations(count: int, steps: int, sizes: int) -> None:
    for seed in range(3):
        table = _with_credit(random_table(count, steps, sizes, seed), seed)
        every, search = _every_solution(table), CoordinateAscent(table)
        for budget in _budgets(table, 5):
            solution = search.within(budget)
            _check(table, solution, budget)
            most = every[every[:, 0] <= budget * (1 + 1e-9), 1].max()
            assert most - 0.5 <= solution.credit * count <= most + 1e-9


@pytest.mark.parametrize("has_credit", [False, True])
@pytest.mark.parametrize("sizes", [1, 3])
def test_no_single_threshold_can_be_improved(sizes: int, has_credit: bool) -> None:
    table = random_table(60, 3, sizes)
    table = _with_credit(table) if has_credit else table
    search = CoordinateAscent(table)
    candidates = np.append(np.arange(0.1, 1.0, 0.01) + 0.005, [-np.inf, np.inf])  # scores have two decimals
    for budget in _budgets(table, 5):
        best = search.within(budget)
        for step, size, value in itertools.product(range(2), range(sizes), candidates):
            moved = best.thresholds.copy()
            moved[step, size] = value
            credit, cost = table.credit_and_cost(moved)
            assert cost > budget * (1 + 1e-9) or credit <= best.credit + 1e-12


@pytest.mark.parametrize(("steps", "sizes"), [(4, 1), (4, 3)])
def test_more_budget_never_gives_less_and_no_more_than_the_bound(steps: int, sizes: int) -> None:
    table = random_table(200, steps, sizes)
    search, bound = CoordinateAscent(table), AccuracyBound(table)
    budgets = _budgets(table, 5)

    front = [search.within(budget) for budget in budgets]

    limits = [bound.at(budget) for budget in budgets]
    for solution, budget in zip(front, budgets, strict=True):
        _check(table, solution, budget)
    assert (np.diff([solution.credit for solution in front]) >= 0).all()
    assert (np.diff(limits) >= 0).all()
    assert all(solution.credit <= limit for solution, limit in zip(front, limits, strict=True))
    assert front[0].credit == table.is_right[:, 0].mean() == limits[0]
    again = CoordinateAscent(table)
    for budget, solution in zip(budgets[:3], front, strict=False):
        assert np.array_equal(again.within(budget).thresholds, solution.thresholds)


def test_the_cheapest_thresholds_for_an_accuracy() -> None:
    table = random_table(12, 3, 1, seed=2)
    every, search = _every_solution(table), CoordinateAscent(table)

    for right in range(int(table.is_right[:, 0].sum()), round(every[:, 1].max()) + 1):
        solution = search.cheapest(right / 12)
        assert solution is not None and round(solution.credit * 12) >= right
        assert solution.cost == pytest.approx(every[every[:, 1] >= right - 1e-6, 0].min())
    assert search.cheapest(1.01) is None


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_of_a_step_at_a_price_are_the_best_of_all_combinations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, 10) / 8
    right, cost = rng.random((4, 10)) < 0.6, rng.integers(1, 9, (4, 10)).astype(float)
    intervals, price = ScoreIntervals(scores, right, cost), 0.06

    found, total = intervals.totals_at_price(price)

    table = HistoryTable(  # of two steps: the second holds what the step's choices give
        np.tile(scores[:, None], 4), np.concatenate([right[3:], right[:3]]).T, np.zeros(4), 3
    )
    values = []
    for row in itertools.product([-np.inf, *(np.arange(-1, 9) / 8 + 0.05)], repeat=3):
        chosen = (table.exits(np.array([row])) - 1) % 4  # the exit is the last choice
        values.append((right[chosen, np.arange(10)] - price * cost[chosen, np.arange(10)]).sum())
    assert found - price * total == pytest.approx(max(values))


def test_the_genetic_algorithm_keeps_to_the_budget() -> None:
    table = random_table(200, 3, 2)
    search, bound = CoordinateAscent(table), AccuracyBound(table)
    for budget in _budgets(table, 4):
        thresholds = genetic_thresholds(table, budget, population=30, generations=15)
        figures = table.figures(thresholds)

        assert figures.cost <= budget * (1 + 1e-6)
        assert table.is_right[:, 0].mean() - 0.01 <= figures.accuracy <= bound.at(budget)
        assert figures.accuracy <= search.within(budget).credit + 0.01
    again = genetic_thresholds(table, budget, population=30, generations=15)
    assert np.array_equal(again, thresholds)


def test_what_can_not_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(20, 3, 2)
    for search in (CoordinateAscent(table).within, AccuracyBound(table).at, lambda b: genetic_thresholds(table, b)):
        with pytest.raises(ValueError, match="budget=1 "):
            search(1.0)
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.soo.nonconvex.ga", None)
    with pytest.raises(ImportError, match="pymoo"):
        genetic_thresholds(table, 20.0)


def _record(count: int, seed: int) -> EvaluationRecord:
    table = random_table(count, 4, 3, seed)
    return record_of(table, label_probability=np.where(table.is_right, table.scores, 1 - table.scores))


def test_half_of_the_credit_for_probabilities_gives_thresholds_that_hold_on_other_images() -> None:
    gains = []
    for seed in range(3):
        few, others = history_table(_record(200, seed)), history_table(_record(3000, seed + 100))
        ours, by_right_images = (CoordinateAscent(each, 0) for each in (few, dataclasses.replace(few, credit=None)))
        for budget in _budgets(few, 4)[1:]:
            found = (others.figures(search.within(budget).thresholds) for search in (ours, by_right_images))
            gains.append(next(found).accuracy - next(found).accuracy)
    assert np.mean(gains) > 0.003


@pytest.mark.parametrize("count", [7, 600])
def test_the_cheapest_budget_is_a_glance_whatever_the_rounding(count: int) -> None:
    table = random_table(count, 3, 1)
    table = HistoryTable(table.scores, table.is_right, np.array([6455552.0, 13402112.0, 20348672.0]))

    assert (table.exits(CoordinateAscent(table).within(6455552.0).thresholds) == 0).all()
