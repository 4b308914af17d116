"""How long fitting and evaluating thresholds takes for 50,000 images and 5 steps, compared with a loop over images.

python benchmarks/early_exit_speed.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from agents.evaluation.history_table import HistoryTable
from agents.evaluation.stopping import ExitFigures
from agents.evaluation.threshold_search import best_thresholds, quota_thresholds, shares_for_budget

T = TypeVar("T")
COSTS = np.array([0.76e9, 1.57e9, 2.38e9, 3.18e9, 3.99e9])  # ResNet-50 at 96x96, policy and classifier counted


def main() -> None:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random((50_000, 5), dtype=np.float32), axis=1)
    is_right = rng.random((50_000, 5)) < scores
    budget = 2.16e9
    shares = shares_for_budget(COSTS, budget)

    def ours() -> ExitFigures:
        return HistoryTable(scores, is_right, COSTS).figures(quota_thresholds(scores, shares)[:, None])

    fast, figures = _milliseconds(ours, rounds=9)
    slow, expected = _milliseconds(lambda: _plain(scores, is_right, shares), rounds=3)
    best, front = _milliseconds(lambda: best_thresholds(scores, is_right, COSTS), rounds=3)
    assert abs(figures.accuracy - expected) < 1e-4
    print("| 50,000 images, 5 steps | ms |\n|---|---|")
    print(f"| thresholds for a budget, and their accuracy | {fast:.1f} |")
    print(f"| the same, image by image | {slow:.0f} ({slow / fast:.0f} times as long) |")
    print(f"| most accurate thresholds of every budget ({len(front.cost):,} on the front) | {best:.0f} |")


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
    return right / count


def _milliseconds(run: Callable[[], T], rounds: int) -> tuple[float, T]:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        result = run()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times), result


if __name__ == "__main__":
    main()
