from __future__ import annotations

import numpy as np
import pytest

from agents.evaluation.history_table import HistoryTable
from agents.evaluation.stopping import next_sizes
from classifiers.networks.size_histories import count_steps, node_of, size_histories


def random_table(count: int, steps: int, sizes: int, seed: int = 0) -> HistoryTable:
    """Larger patches cost more, and are right and certain more often; scores of few images may tie."""
    rng = np.random.default_rng(seed)
    histories = size_histories(sizes, steps)
    gain = np.array([sum(0.1 + 0.05 * size for size in history) for history in histories])
    scores = np.clip(rng.uniform(0.1, 0.7, (count, 1)) + gain + rng.normal(0, 0.1, (count, len(histories))), 0.1, 0.99)
    scores = np.round(scores, 2).astype(np.float32)
    costs = np.array([10 + sum(10 + 9 * size for size in history) for history in histories])
    return HistoryTable(scores, rng.random(scores.shape) < scores, costs, sizes)


def test_histories_are_numbered_breadth_first() -> None:
    histories = size_histories(3, 4)

    assert len(histories) == 40
    assert histories[:6] == [(), (0,), (1,), (2,), (0, 0), (0, 1)] and histories[-1] == (2, 2, 2)
    assert [node_of(history, 3) for history in histories] == list(range(40))
    assert size_histories(1, 3) == [(), (0,), (0, 0)]
    for sizes, steps in ((1, 1), (1, 5), (2, 4), (3, 4)):
        assert count_steps(len(size_histories(sizes, steps)), sizes) == steps


@pytest.mark.parametrize(("nodes", "sizes"), [(0, 1), (39, 3), (41, 3), (2, 2), (4, 0)])
def test_numbers_of_nodes_that_are_no_tree(nodes: int, sizes: int) -> None:
    with pytest.raises(ValueError, match=f"{nodes} nodes are no tree of {sizes} patch sizes"):
        count_steps(nodes, sizes)


def test_the_interval_names_the_next_size() -> None:
    scores = np.array([0.1, 0.3, 0.31, 0.5, 0.6, 0.7, 0.71, 1.0], np.float64)

    assert next_sizes(scores, np.array([0.3, 0.5, 0.7])).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert next_sizes(scores, np.array([0.7, 0.3, 0.5])).tolist() == [1, 1, 2, 2, 0, 0, 3, 3]  # in any order
    assert next_sizes(scores, np.array([0.5, 0.3, 0.5])).tolist() == [1, 1, 0, 0, 3, 3, 3, 3]  # equal: the smaller size
    assert next_sizes(scores, np.array([-np.inf, np.inf, -np.inf])).tolist() == [1] * 8
    assert next_sizes(scores, np.full(3, -np.inf)).tolist() == [3] * 8


@pytest.mark.parametrize("seed", range(5))
def test_sizes_are_those_of_equation_9(seed: int) -> None:
    rng = np.random.default_rng(seed)
    thresholds = rng.permutation(20)[:3] / 20
    for score in rng.permutation(40) / 40:
        chosen = int(next_sizes(np.array([score]), thresholds)[0])

        if score > thresholds.max():
            assert chosen == 3
            continue
        fits = [
            size
            for size in range(3)
            if score <= thresholds[size]
            and score > max((other for other in thresholds if other < thresholds[size]), default=-np.inf)
        ]
        assert fits == [chosen]


@pytest.mark.parametrize(("steps", "sizes"), [(4, 3), (3, 2), (5, 1), (1, 2)])
def test_figures_are_those_of_a_walk_image_by_image(steps: int, sizes: int) -> None:
    table = random_table(200, steps, sizes)
    thresholds = np.random.default_rng(1).uniform(0.2, 0.9, (steps - 1, sizes))
    histories = size_histories(sizes, steps)
    ends = []
    for row in range(200):
        history: tuple[int, ...] = ()
        for step in range(steps - 1):
            size = int(next_sizes(table.scores[row, [node_of(history, sizes)]], thresholds[step])[0])
            if size == sizes:
                break
            history += (size,)
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


def test_tables_and_thresholds_that_do_not_fit() -> None:
    table = random_table(5, 3, 2)
    with pytest.raises(ValueError, match=r"thresholds have shape \(2,\); pass \(2, 2\)"):
        table.exits(np.zeros(2))
    with pytest.raises(ValueError, match=r"is_right has shape \(5, 6\); pass one or more images and 7 nodes"):
        HistoryTable(table.scores, table.is_right[:, 1:], table.multiply_adds, 2)
    with pytest.raises(ValueError, match="pass one or more images and 7 nodes"):
        HistoryTable(table.scores[:0], table.is_right[:0], table.multiply_adds, 2)
    with pytest.raises(ValueError, match="scores hold NaN"):
        HistoryTable(np.full_like(table.scores, np.nan), table.is_right, table.multiply_adds, 2)
