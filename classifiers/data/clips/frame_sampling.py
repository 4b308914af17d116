"""Which frames of a recording make a clip, as TSM's authors choose them."""

from __future__ import annotations

import numpy as np


def segment_centres(length: int, count: int) -> np.ndarray:
    """The frames in the middle of equally long segments, for testing.

    Args:
        length: frames of the recording, 1 or more.
        count: frames F of the clip.

    Returns:
        (F,) int64 in [0, length), in order of time; frames are repeated evenly where there are fewer than F.
    """
    tick = length / count
    return np.array([int(tick / 2.0 + tick * index) for index in range(count)], dtype=np.int64)


def random_in_segments(length: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """A random frame of each of equally long segments, for training.

    Differs from TSM where a recording has fewer frames than the clip: TSM takes its first frame F times; here, frames
    are repeated as in testing, so that something still moves.

    Args:
        length: frames of the recording, 1 or more.
        count: frames F of the clip.
        rng: draws the frames.

    Returns:
        (F,) int64 in [0, length), in order of time.
    """
    duration = length // count
    if duration == 0:
        return segment_centres(length, count)
    return np.arange(count, dtype=np.int64) * duration + rng.integers(duration, size=count)
