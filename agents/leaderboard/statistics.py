"""Statistics over a few seeds and tasks, without distributional assumptions.

They are those of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (2021):
interquartile means, stratified percentile bootstrap, performance profiles, probability of improvement. Their package
`rliable` 1.2.0 gives the same figures, but takes equally many runs of each task, and boards have one to five.

`scores` are lists of runs, one list for each task; tasks may have different numbers of runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Scores = Sequence[Sequence[float]]
"""A score for each run (seed), by task."""

_SAMPLES = 5000


class Estimate(NamedTuple):
    """A figure and its interval.

    Attributes:
        value: the figure.
        low: lower end of the interval; NaN if there are too few seeds for one.
        high: its upper end.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        if self.low != self.low:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interquartile_mean(values: np.ndarray | Sequence[float]) -> np.ndarray:
    """Mean along the last axis without the smallest and the largest quarter, rounded down."""
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    dropped = ordered.shape[-1] // 4
    mean: np.ndarray = ordered[..., dropped : ordered.shape[-1] - dropped].mean(axis=-1)
    return mean


def estimate(scores: Scores, level: float = 0.95) -> Estimate:
    """The interquartile mean over all runs of all tasks, with a stratified bootstrap interval.

    Args:
        scores: by task, at least one run each.
        level: confidence level, in (0, 1).

    Returns:
        The estimate; without an interval if a task has fewer than two runs.
    """
    return _bootstrapped(
        lambda *tasks: interquartile_mean(np.concatenate(tasks, axis=-1)), [np.asarray(task) for task in scores], level
    )


def probability_of_improvement(scores: Scores, others: Scores, level: float = 0.95) -> Estimate:
    """How likely a run of one agent beats a run of another on the same task; ties count half; mean over tasks.

    Args:
        scores: of one agent, by task.
        others: of the other, on the same tasks in the same order.
        level: confidence level, in (0, 1).

    Returns:
        The estimate, in [0, 1].
    """
    count = len(scores)

    def better(*tasks: np.ndarray) -> np.ndarray:
        shares = []
        for ours, theirs in zip(tasks[:count], tasks[count:], strict=True):
            gap = ours[..., :, None] - theirs[..., None, :]
            shares.append(((gap > 0) + 0.5 * (gap == 0)).mean(axis=(-2, -1)))
        mean: np.ndarray = np.mean(shares, axis=0)
        return mean

    return _bootstrapped(better, [np.asarray(task) for task in (*scores, *others)], level)


def paired_difference(scores: Scores, others: Scores, level: float = 0.95) -> Estimate:
    """Mean difference between runs of two agents with the same seeds, over all tasks.

    Args:
        scores: of one agent, by task; runs ordered by seed.
        others: of the other, with the same tasks and seeds.
        level: confidence level, in (0, 1).

    Returns:
        The estimate; its bootstrap draws pairs.
    """
    gaps = [np.subtract(ours, theirs) for ours, theirs in zip(scores, others, strict=True)]
    return _bootstrapped(lambda *tasks: np.concatenate(tasks, axis=-1).mean(axis=-1), gaps, level)


def performance_profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """The share of runs whose score exceeds each threshold, mean over tasks.

    Args:
        scores: by task.
        thresholds: (M,).

    Returns:
        (M,) in [0, 1].
    """
    by_task = [(np.asarray(task)[:, None] > thresholds).mean(axis=0) for task in scores]
    mean: np.ndarray = np.mean(by_task, axis=0)
    return mean


def _bootstrapped(statistic: Callable[..., np.ndarray], strata: Sequence[np.ndarray], level: float) -> Estimate:
    """A statistic of (..., runs) arrays, and its percentile bootstrap over the runs of each stratum."""
    value = float(statistic(*strata))
    if min(len(stratum) for stratum in strata) < 2:
        return Estimate(value)
    rng = np.random.default_rng(0)
    drawn = [stratum[rng.integers(len(stratum), size=(_SAMPLES, len(stratum)))] for stratum in strata]
    low, high = np.quantile(statistic(*drawn), [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Estimate(value, float(low), float(high))
