"""Image files that are decoded before they are asked for."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from torch import Tensor

from classifiers.data.folder import FolderImages, FolderView
from classifiers.data.random_crops import RandomCrops
from classifiers.data.source import Batch


class Prefetcher(FolderView):
    """A folder's images, decoded by threads while the networks compute; what nobody expected is decoded when fetched.

    Decoding releases the interpreter lock, so threads are enough, and pixels stay bytes until the device has them.

    Args:
        source: the files, or random crops of them.
        num_threads: threads that decode; None takes one for each core.

    Raises:
        ValueError: if there is no thread.
    """

    def __init__(self, source: FolderImages | RandomCrops, num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads={num_threads}; pass 1 or more, or None for one for each core")
        super().__init__(source.source if isinstance(source, RandomCrops) else source)
        self._decode = source.decode
        self._pool = ThreadPoolExecutor(num_threads or os.cpu_count(), thread_name_prefix="prefetch")
        self._decoded: dict[int, Future[np.ndarray]] = {}

    def expect(self, indices: np.ndarray) -> None:
        """Starts to decode images that will be fetched, and drops those that were expected before and no longer are.

        Args:
            indices: int64 in [0, len(self)), of all images that will be fetched next.
        """
        wanted = set(indices.tolist())
        for index in self._decoded.keys() - wanted:
            self._decoded.pop(index).cancel()
        for index in wanted - self._decoded.keys():
            self._decoded[index] = self._pool.submit(self._decode, index)

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`.

        Raises:
            UnreadableImageError: if a file can't be decoded.
        """
        chosen = indices.tolist()
        futures = [self._decoded.get(index) or self._pool.submit(self._decode, index) for index in chosen]
        return self.source.batch([future.result() for future in futures], indices)
