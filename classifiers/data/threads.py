"""Work on many indices by threads side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.utils.data import get_worker_info


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
