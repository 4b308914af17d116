"""Statistics over a few seeds, after Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (2021): interquartile means and percentile bootstrap intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean without the smallest and the largest quarter; the plain mean of fewer than four values."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    dropped = len(ordered) // 4
    return float(ordered[dropped : len(ordered) - dropped].mean())


def bootstrap_interval(values: Sequence[float], *, samples: int = 5000, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the interquartile mean.

    Args:
        values: one for each seed.
        samples: number of bootstrap samples.
        level: confidence level, in (0, 1).

    Returns:
        The lower and the upper end.
    """
    array = np.asarray(values, dtype=np.float64)
    drawn = np.sort(array[np.random.default_rng(0).integers(len(array), size=(samples, len(array)))], axis=1)
    dropped = len(array) // 4
    means = drawn[:, dropped : len(array) - dropped].mean(axis=1)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
