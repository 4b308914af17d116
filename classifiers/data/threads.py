"""Work on many indices by threads side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.utils.data import get_worker_info

from classifiers.data.decoding import UnreadableImageError


def map_threads(function: Callable[[int], Any], indices: Sequence[int]) -> Iterable[Any]:
    """The function's results in order, by one thread for each core; without threads in a worker or for one index.

    Decoding releases the interpreter lock, so threads are enough.

    Args:
        function: of an index; must be safe to call from several threads.
        indices: in the order of the results.

    Yields:
        The results.
    """
    if get_worker_info() is not None or len(indices) == 1:
        yield from map(function, indices)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(function, indices)


def readable_indices(
    decode: Callable[[int], object], count: int, on_progress: Callable[[int, int], None] | None = None
) -> list[int]:
    """Which of a source's files can be decoded; all are decoded to find out.

    Args:
        decode: decodes the file of an index; raises `UnreadableImageError` if it can't.
        count: how many files there are.
        on_progress: called with (files checked, files in all).

    Returns:
        The indices of those that can be decoded, in ascending order.
    """

    def is_readable(index: int) -> bool:
        try:
            decode(index)
        except UnreadableImageError:
            return False
        return True

    good = []
    for index, readable in enumerate(map_threads(is_readable, range(count))):
        if readable:
            good.append(index)
        if on_progress is not None:
            on_progress(index + 1, count)
    return good
