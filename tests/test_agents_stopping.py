"""Exits by Eq. (9), over size histories, and the paper's geometric distribution of exits."""

from __future__ import annotations

import numpy as np
import pytest
from records import random_table

from agents.evaluation.stopping import CRITERIA, ExitRule, HistoryTable, check_thresholds, exit_scores, next_sizes
from agents.evaluation.threshold_search import geometric_shares, quota_thresholds, shares_for_budget
from classifiers.networks.size_histories import count_steps, node_of, size_histories

COSTS = np.array([10.0, 30.0, 50.0, 80.0])


def _scores(count: int = 400, steps: int = 4) -> np.ndarray:
    """Scores that rise from step to step."""
    return np.sort(np.random.default_rng(0).random((count, steps)), axis=1).astype(np.float32)


def _table(scores: np.ndarray, costs: np.ndarray | None = None) -> HistoryTable:
    costs = np.arange(scores.shape[1]) if costs is None else costs
    return HistoryTable(scores, np.zeros(scores.shape, bool), costs)


def _exit_steps(scores: np.ndarray, thresholds: np.ndarray) -> list[int]:
    steps: list[int] = (_table(scores).exits(thresholds[:, None]) + 1).tolist()
    return steps


# --- size histories --------------------------------------------------------------------------------------------------


def test_histories_are_numbered_breadth_first() -> None:
    histories = size_histories(3, 4)

    assert len(histories) == 40
    assert histories[:6] == [(), (0,), (1,), (2,), (0, 0), (0, 1)] and histories[-1] == (2, 2, 2)
    assert [node_of(history, 3) for history in histories] == list(range(40))
    assert size_histories(1, 3) == [(), (0,), (0, 0)]
    for sizes, steps in ((1, 1), (1, 5), (2, 4), (3, 4)):
        assert count_steps(len(size_histories(sizes, steps)), sizes) == steps


# --- Eq. (9) ---------------------------------------------------------------------------------------------------------


def test_the_interval_names_the_next_size() -> None:
    scores = np.array([0.1, 0.3, 0.31, 0.5, 0.6, 0.7, 0.71, 1.0], np.float64)

    assert next_sizes(scores, np.array([0.3, 0.5, 0.7])).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert next_sizes(scores, np.array([0.7, 0.3, 0.5])).tolist() == [1, 1, 2, 2, 0, 0, 3, 3]  # in any order
    assert next_sizes(scores, np.array([0.5, 0.3, 0.5])).tolist() == [1, 1, 0, 0, 3, 3, 3, 3]  # equal: the smaller size
    assert next_sizes(scores, np.array([-np.inf, np.inf, -np.inf])).tolist() == [1] * 8
    assert next_sizes(scores, np.full(3, -np.inf)).tolist() == [3] * 8


@pytest.mark.parametrize(("steps", "sizes"), [(4, 3), (5, 1), (1, 2)])
def test_figures_are_those_of_a_walk_image_by_image(steps: int, sizes: int) -> None:
    table = random_table(200, steps, sizes)
    thresholds = np.random.default_rng(1).uniform(0.2, 0.9, (steps - 1, sizes))
    histories = size_histories(sizes, steps)
    ends = []
    for row in range(200):
        history: tuple[int, ...] = ()
        for step in range(steps - 1):
            score, limits = table.scores[row, node_of(history, sizes)], thresholds[step]
            if score > limits.max():
                break
            history += (min((size for size in range(sizes) if limits[size] >= score), key=limits.__getitem__),)
        ends.append(node_of(history, sizes))

    figures = table.figures(thresholds)

    assert table.exits(thresholds).tolist() == ends
    assert figures.accuracy == pytest.approx(table.is_right[range(200), ends].mean())
    assert figures.cost == pytest.approx(table.multiply_adds[ends].mean())
    lengths = np.array([len(histories[node]) for node in ends])
    assert figures.exits == pytest.approx(np.bincount(lengths, minlength=steps) / 200)
    assert figures.expected_length == pytest.approx(1 + lengths.mean())
    seen = [size for node in ends for size in histories[node]]
    expected = np.bincount(np.array(seen, int), minlength=sizes) / max(len(seen), 1)
    assert figures.size_shares == pytest.approx(expected)


def test_an_image_leaves_at_the_first_threshold_that_it_exceeds() -> None:
    scores = np.array([[0.9, 0.1, 0.1], [0.1, 0.7, 0.9], [0.1, 0.1, 0.0], [0.5, 0.9, 0.9]])

    assert _exit_steps(scores, np.array([0.4, 0.6])) == [1, 2, 3, 1]
    assert _exit_steps(scores, np.array([0.5, 0.7])) == [1, 3, 3, 2]  # not at the threshold itself
    assert _exit_steps(scores, np.array([np.inf, -np.inf])) == [2, 2, 2, 2]


def test_criteria_rank_predictions() -> None:
    confidence, entropy = np.array([[0.9, 0.6]], np.float32), np.array([[0.2, 0.7]], np.float32)

    assert exit_scores("confidence", confidence, entropy).tolist() == confidence.tolist()
    assert exit_scores("entropy", confidence, entropy).tolist() == (-entropy).tolist()
    chance = exit_scores("random", confidence, entropy, seed=3)
    assert chance.shape == (1, 2) and (chance == exit_scores("random", confidence, entropy, seed=3)).all()
    with pytest.raises(ValueError, match=f"criterion='margin'.*{', '.join(CRITERIA)}"):
        exit_scores("margin", confidence, entropy)


def test_rules_that_do_not_fit() -> None:
    assert ExitRule("confidence", [0.5, 0.6]).thresholds.tolist() == [[0.5], [0.6]]
    with pytest.raises(ValueError, match="criterion"):
        ExitRule("margin", np.array([0.5]))
    with pytest.raises(ValueError, match="NaN"):
        ExitRule("confidence", np.array([0.5, np.nan]))
    with pytest.raises(ValueError, match=r"thresholds have shape \(2,\); pass \(2, 2\)"):
        check_thresholds(np.zeros(2), 3, 2)


# --- the geometric distribution of exits -----------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [10.0, 10.5, 25.0, 60.0, 80.0])
def test_shares_are_geometric_and_cost_the_budget(budget: float) -> None:
    shares = shares_for_budget(COSTS, budget)

    assert shares.sum() == pytest.approx(1.0)
    assert shares @ COSTS == pytest.approx(budget, rel=1e-6)
    if 10.5 < budget < 79.0:
        assert shares[1:] / shares[:-1] == pytest.approx(shares[1] / shares[0])


def test_shares_below_the_uniform_distribution_are_the_papers() -> None:
    q = 0.3
    weights = [(1 - q) ** t * q for t in range(5)]

    assert geometric_shares(1 - q, 5) == pytest.approx(np.array(weights) / sum(weights))


@pytest.mark.parametrize("budget", [9.9, 80.1, np.nan])
def test_budgets_out_of_range_name_the_range(budget: float) -> None:
    with pytest.raises(ValueError, match=r"pass 10 .* to 80"):
        shares_for_budget(COSTS, budget)


def test_quotas_are_filled_by_the_most_confident_of_those_who_wait() -> None:
    scores = _scores()
    shares = shares_for_budget(COSTS, 40.0)

    thresholds = quota_thresholds(scores, shares)

    figures = _table(scores, COSTS).figures(thresholds[:, None])
    assert figures.exits == pytest.approx(shares, abs=1 / 400 + 1e-9)
    assert 39.0 < figures.cost <= 40.0
    steps, waiting = np.array(_exit_steps(scores, thresholds)), np.ones(400, bool)
    for step in range(3):  # as a plain loop would choose
        leaves = steps == step + 1
        assert scores[leaves, step].min() > scores[waiting & ~leaves, step].max()
        waiting &= ~leaves


def test_ties_never_overshoot_the_quota_and_leave_a_step_later() -> None:
    scores = np.array([[1.0, 0.2, 0.0], [1.0, 0.3, 0.0], [1.0, 0.4, 0.0], [0.5, 0.6, 0.0]], np.float32)

    def exits(*shares: float) -> list[int]:
        columns = scores[:, : len(shares)]
        return _exit_steps(columns, quota_thresholds(columns, np.array(shares)))

    assert exits(0.5, 0.5) == [2, 2, 2, 2]
    assert exits(0.75, 0.25) == [1, 1, 1, 2]
    assert exits(0.5, 0.25, 0.25) == [3, 2, 2, 2]
    scores[:] = 1.0
    assert exits(0.4, 0.3, 0.3) == [3] * 4
    assert exits(1.0, 0.0, 0.0) == [1] * 4


def test_thresholds_lie_between_two_scores_whatever_their_last_digits() -> None:
    scores = _scores()
    thresholds = quota_thresholds(scores, np.full(4, 0.25))

    noisy = scores + np.random.default_rng(1).uniform(-1e-7, 1e-7, scores.shape).astype(np.float32)

    assert _exit_steps(noisy, thresholds) == _exit_steps(scores, thresholds)
