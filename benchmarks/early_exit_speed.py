"""How long fitting and evaluating thresholds takes for 50,000 images, and how good they are.

With one patch size and 5 steps: the paper's geometric distribution of exits, compared with a loop over images. With
three sizes and 4 steps, 40 histories: the most accurate thresholds of 40 budgets, and their share of the bound. With
`--run`, all that `gfnet evaluate` computes from the records of 4,000 images for thresholds and 2,000 for the report.

python benchmarks/early_exit_speed.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from agents.evaluation.accuracy_bound import AccuracyBound
from agents.evaluation.budgets import adaptive_figures
from agents.evaluation.coordinate_ascent import CoordinateAscent
from agents.evaluation.genetic_search import genetic_thresholds
from agents.evaluation.history_table import HistoryTable
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.stopping import ExitFigures
from agents.evaluation.threshold_search import quota_thresholds, shares_for_budget
from classifiers.networks.size_histories import node_of, size_histories

T = TypeVar("T")
COSTS = np.array([0.76e9, 1.57e9, 2.38e9, 3.18e9, 3.99e9])  # ResNet-50 at 96x96, policy and classifier counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000, help="of the table of several sizes")
    parser.add_argument("--genetic", action="store_true", help="also run the genetic algorithm for 4 of the budgets")
    parser.add_argument("--run", action="store_true", help="only what an evaluation spends on thresholds")
    options = parser.parse_args()
    if options.run:
        _one_evaluation()
        return
    _one_size()
    _several_sizes(options.images, options.genetic)


def _one_size() -> None:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random((50_000, 5), dtype=np.float32), axis=1)
    is_right = rng.random((50_000, 5)) < scores
    budget = 2.16e9
    shares = shares_for_budget(COSTS, budget)

    def ours() -> ExitFigures:
        return HistoryTable(scores, is_right, COSTS).figures(quota_thresholds(scores, shares)[:, None])

    fast, figures = _milliseconds(ours, rounds=9)
    slow, expected = _milliseconds(lambda: _plain(scores, is_right, shares), rounds=3)
    assert abs(figures.accuracy - expected) < 1e-4
    print("| 50,000 images, 5 steps | ms |\n|---|---|")
    print(f"| thresholds for a budget, and their accuracy | {fast:.1f} |")
    print(f"| the same, image by image | {slow:.0f} ({slow / fast:.0f} times as long) |")


def _several_sizes(count: int, with_genetic: bool) -> None:
    table = _table_of_several_sizes(count)
    budgets = np.linspace(table.multiply_adds[0], table.multiply_adds.max(), 42)[1:-1]
    started = time.process_time()
    search = CoordinateAscent(table)
    front = [search.within(budget) for budget in budgets]
    seconds, started = time.process_time() - started, time.process_time()
    bound = AccuracyBound(table)
    limits = [bound.at(budget) for budget in budgets]
    of_bound = time.process_time() - started
    shares = [found.credit / limit for found, limit in zip(front, limits, strict=True)]
    print(f"\n| {count:,} images, 40 histories, 40 budgets | processor seconds | share of the bound: mean, least |")
    print("|---|---|---|")
    print(f"| coordinate ascent | {seconds:.1f} | {np.mean(shares):.3f}, {np.min(shares):.3f} |")
    print(f"| the bound | {of_bound:.1f} | |")
    for place in (5, 15, 25, 35) if with_genetic else ():
        started = time.process_time()
        accuracy = table.figures(genetic_thresholds(table, budgets[place])).accuracy
        print(
            f"| genetic algorithm, {budgets[place] / 1e9:.2f} G: {accuracy:.4f}; coordinate ascent: "
            f"{front[place].credit:.4f} | {time.process_time() - started:.1f} | {accuracy / limits[place]:.3f} |"
        )


def _one_evaluation() -> None:
    print("| thresholds of one `gfnet evaluate` | processor seconds |\n|---|---|")
    for sizes in (1, 3):
        tables = [_table_of_several_sizes(count, seed) for seed, count in enumerate((4_000, 2_000))]
        calibration, record = (_record(table, sizes) for table in tables)
        reachable = float((calibration.prediction[:, -1] == 0).mean()) - 0.02
        started = time.process_time()
        adaptive_figures(calibration, record, (reachable, reachable), 10 * int(COSTS[-1]))
        print(f"| {sizes} patch size{'s' if sizes > 1 else ''} | {time.process_time() - started:.1f} |")


def _record(table: HistoryTable, sizes: int) -> EvaluationRecord:
    """A record of the table's confidences and right predictions, at all its sizes or at the largest alone."""
    nodes = range(40) if sizes > 1 else [node_of((2,) * looks, 3) for looks in range(4)]
    scores, is_right = table.scores[:, nodes], table.is_right[:, nodes]
    count = len(scores)
    return EvaluationRecord(
        label=np.zeros(count, np.int64),
        box=np.zeros((count, 4), np.int64),
        prediction=np.where(is_right, 0, 1),
        confidence=scores,
        entropy=1 - scores,
        label_probability=scores,
        location=np.zeros((count, len(nodes) - 1, 2), np.float32),
        multiply_adds=table.multiply_adds[nodes].astype(np.int64),
        patch_sizes=(96, 128, 160)[-sizes:],
        image_size=(224, 224),
    )


def _table_of_several_sizes(count: int, seed: int = 0) -> HistoryTable:
    """Images of varying difficulty, each with a size that suits it best; larger patches help and cost more."""
    rng = np.random.default_rng(seed)
    histories = size_histories(3, 4)
    gain = np.array([sum((0.6 + 0.3 * size) * 0.8**look for look, size in enumerate(each)) for each in histories])
    suits = np.array([[0.25 * each.count(size) for each in histories] for size in range(3)])
    margin = 0.7 + gain + suits[rng.integers(3, size=count)] - 1.6 * rng.normal(size=(count, 1))
    probability = 1.0 / (1.0 + np.exp(-margin - 0.7 * rng.normal(size=margin.shape)))
    is_right = rng.random((count, 1)) < probability
    look = 0.75e9 * (np.array([96, 128, 160]) / 96) ** 2 + 0.056e9  # ResNet-50, policy and classifier counted
    costs = np.array([0.76e9 + sum(look[size] for size in each) for each in histories])
    return HistoryTable(probability.astype(np.float32), is_right, costs, 3)


def _plain(scores: np.ndarray, is_right: np.ndarray, shares: np.ndarray) -> float:
    """The same thresholds and accuracy with a loop over images, as the method is usually implemented."""
    count, steps = scores.shape
    thresholds, gone, num_gone, quota = [], np.zeros(count, dtype=bool), 0, 0.0
    for step in range(steps - 1):
        quota += shares[step] * count
        order = sorted(range(count), key=lambda row: -scores[row, step])
        threshold = np.inf
        for row in order:
            if num_gone >= quota:
                break
            if not gone[row]:
                gone[row], threshold, num_gone = True, scores[row, step], num_gone + 1
        thresholds.append(threshold)
    right = 0
    for row in range(count):
        for step in range(steps):
            if step == steps - 1 or scores[row, step] >= thresholds[step]:
                right += int(is_right[row, step])
                break
    return float(right / count)


def _milliseconds(run: Callable[[], T], rounds: int) -> tuple[float, T]:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        result = run()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times), result


if __name__ == "__main__":
    main()
