from __future__ import annotations

import numpy as np
import pytest

from agents.evaluation.history_table import HistoryTable
from agents.evaluation.stopping import CRITERIA, ExitFigures, ExitRule, exit_scores
from agents.evaluation.threshold_search import geometric_shares, quota_thresholds, shares_for_budget

COSTS = np.array([10.0, 30.0, 50.0, 80.0])


def _record(count: int = 400, steps: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that rise from step to step, and predictions that are right the more often the higher they are."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.random((count, steps)), axis=1).astype(np.float32)
    return scores, rng.random((count, steps)) < scores


def exit_figures(scores: np.ndarray, is_right: np.ndarray, costs: np.ndarray, thresholds: np.ndarray) -> ExitFigures:
    return HistoryTable(scores, is_right, costs).figures(thresholds[:, None])


def exit_steps(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    table = HistoryTable(scores, np.zeros(scores.shape, bool), np.arange(scores.shape[1]))
    return table.exits(thresholds[:, None]) + 1


@pytest.mark.parametrize("budget", [10.0, 10.5, 25.0, 42.5, 60.0, 79.0, 80.0])
def test_shares_are_geometric_and_cost_the_budget(budget: float) -> None:
    shares = shares_for_budget(COSTS, budget)

    assert shares.sum() == pytest.approx(1.0)
    assert shares @ COSTS == pytest.approx(budget, rel=1e-6)
    if 10.5 < budget < 79.0:
        assert shares[1:] / shares[:-1] == pytest.approx(shares[1] / shares[0])


def test_shares_below_the_uniform_distribution_are_the_papers() -> None:
    q = 0.3
    shares = geometric_shares(1 - q, 5)

    weights = [(1 - q) ** t * q for t in range(5)]
    assert shares == pytest.approx(np.array(weights) / sum(weights))


@pytest.mark.parametrize("budget", [9.9, 80.1, np.nan])
def test_budgets_out_of_range_name_the_range(budget: float) -> None:
    with pytest.raises(ValueError, match=r"pass 10 \(a glance alone\) to 80 \(all steps\)"):
        shares_for_budget(COSTS, budget)


def test_an_image_leaves_at_the_first_threshold_that_it_exceeds() -> None:
    scores = np.array([[0.9, 0.1, 0.1], [0.1, 0.7, 0.9], [0.1, 0.1, 0.0], [0.5, 0.9, 0.9]])

    assert exit_steps(scores, np.array([0.4, 0.6])).tolist() == [1, 2, 3, 1]
    assert exit_steps(scores, np.array([0.5, 0.7])).tolist() == [1, 3, 3, 2]  # not at the threshold itself
    assert exit_steps(scores, np.array([np.inf, -np.inf])).tolist() == [2, 2, 2, 2]


def test_quotas_are_filled_by_the_most_confident_of_those_who_wait() -> None:
    scores, is_right = _record()
    shares = shares_for_budget(COSTS, 40.0)

    thresholds = quota_thresholds(scores, shares)

    figures = exit_figures(scores, is_right, COSTS, thresholds)
    assert figures.exits == pytest.approx(shares, abs=1 / 400 + 1e-9)
    assert 39.0 < figures.cost <= 40.0
    assert figures.expected_length == pytest.approx(figures.exits @ [1, 2, 3, 4])
    steps, waiting = exit_steps(scores, thresholds), np.ones(400, bool)
    for step in range(3):  # as a plain loop would choose
        leaves = steps == step + 1
        assert scores[leaves, step].min() > scores[waiting & ~leaves, step].max()
        waiting &= ~leaves


def test_ties_never_overshoot_the_quota() -> None:
    scores = np.array([[1.0, 0.2], [1.0, 0.3], [1.0, 0.4], [0.5, 0.6]], np.float32)
    shares = np.array([0.5, 0.5])

    assert exit_steps(scores, quota_thresholds(scores, shares)).tolist() == [2, 2, 2, 2]
    three = exit_steps(scores, quota_thresholds(scores, np.array([0.75, 0.25])))
    assert three.tolist() == [1, 1, 1, 2]


def test_what_ties_left_open_may_leave_a_step_later() -> None:
    scores = np.array([[1.0, 0.2, 0.0], [1.0, 0.3, 0.0], [1.0, 0.4, 0.0], [0.5, 0.6, 0.0]], np.float32)

    steps = exit_steps(scores, quota_thresholds(scores, np.array([0.5, 0.25, 0.25])))

    assert steps.tolist() == [3, 2, 2, 2]


def test_all_equal_scores_never_leave_early_but_for_the_whole() -> None:
    scores = np.ones((10, 3), np.float32)

    assert (exit_steps(scores, quota_thresholds(scores, np.array([0.4, 0.3, 0.3]))) == 3).all()
    assert (exit_steps(scores, quota_thresholds(scores, np.array([1.0, 0.0, 0.0]))) == 1).all()


def test_thresholds_lie_between_two_scores_whatever_their_last_digits() -> None:
    scores, _ = _record()
    thresholds = quota_thresholds(scores, np.full(4, 0.25))

    noisy = scores + np.random.default_rng(1).uniform(-1e-7, 1e-7, scores.shape).astype(np.float32)

    assert (exit_steps(noisy, thresholds) == exit_steps(scores, thresholds)).all()


def test_criteria_rank_predictions() -> None:
    confidence, entropy = np.array([[0.9, 0.6]], np.float32), np.array([[0.2, 0.7]], np.float32)

    assert exit_scores("confidence", confidence, entropy).tolist() == confidence.tolist()
    assert exit_scores("entropy", confidence, entropy).tolist() == (-entropy).tolist()
    chance = exit_scores("random", confidence, entropy, seed=3)
    assert chance.shape == (1, 2) and (chance == exit_scores("random", confidence, entropy, seed=3)).all()
    with pytest.raises(ValueError, match=f"pass one of {', '.join(CRITERIA)}"):
        exit_scores("margin", confidence, entropy)


def test_rules_refuse_what_is_none() -> None:
    with pytest.raises(ValueError, match="criterion='margin' is unknown"):
        ExitRule.of("margin", [0.5])
    with pytest.raises(ValueError, match="NaN"):
        ExitRule.of("confidence", [0.5, float("nan")])
    with pytest.raises(ValueError, match="1 thresholds for 4 steps; pass 3"):
        ExitRule.of("confidence", [0.5]).array(4)
    with pytest.raises(ValueError, match="1 thresholds at step 1 for 3 patch sizes; pass 3"):
        ExitRule.of("confidence", [0.5]).array(2, 3)
    with pytest.raises(ValueError, match="2 thresholds at step 2 for 3 patch sizes; pass 3"):
        ExitRule.of("confidence", [[0.5, 0.6, 0.7], [0.5, 0.6]]).array(3, 3)
