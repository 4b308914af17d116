"""Images fetched by threads before they are asked for."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from classifiers.data.source import Batch, ImageSource, SourceView


class Prefetcher(SourceView[ImageSource]):
    """A source whose expected images are fetched by threads, while the networks compute.

    Decoding releases the interpreter lock, so threads are enough. They start with the first image and end with `close`.
    Copies and pickles carry the source; they start threads of their own.

    Args:
        source: the images; must let several threads fetch at once.
        num_threads: how many threads fetch; None takes one for each core.

    Raises:
        ValueError: if there is no thread.
    """

    def __init__(self, source: ImageSource, num_threads: int | None = None) -> None:
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads={num_threads}; pass 1 or more, or None for one for each core")
        super().__init__(source)
        self._num_threads = num_threads
        self._pool: ThreadPoolExecutor | None = None
        self._expected: dict[int, Future[Batch]] = {}

    def for_epoch(self, epoch: int) -> Prefetcher:
        """See `ImageSource.for_epoch`."""
        return Prefetcher(self.source.for_epoch(epoch), self._num_threads)

    def expect(self, indices: np.ndarray) -> None:
        """Starts to fetch images, and drops those that were expected before and no longer are.

        Args:
            indices: int64 in [0, len(self)), of all images that will be fetched next.
        """
        wanted = set(indices.tolist())
        for index in self._expected.keys() - wanted:
            self._expected.pop(index).cancel()
        for index in wanted - self._expected.keys():
            self._expected[index] = self._start(index)

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`; also raises what fetching an expected image raised."""
        started = [self._expected.get(index) or self._start(index) for index in indices.tolist()]
        return Batch(*(torch.cat(parts) for parts in zip(*(one.result() for one in started), strict=True)))

    def close(self) -> None:
        """Drops what was expected and ends the threads; a later fetch starts new ones."""
        self._expected.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        super().close()

    def _start(self, index: int) -> Future[Batch]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._num_threads or os.cpu_count(), thread_name_prefix="prefetch")
        return self._pool.submit(self.source.fetch, torch.tensor([index]))

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source, "num_threads": self._num_threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a copy begins like a new one
