"""Images fetched ahead of need: by threads for environments, by processes for training."""

from __future__ import annotations

import copy
import multiprocessing.context
import os
import weakref
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from classifiers.data.decoding import UnreadableImageError
from classifiers.data.source import Batch, ImageSource, SourceView, batch_without_boxes

Item = TypeVar("Item")
Result = TypeVar("Result")

_BATCHES_AHEAD = 4  # per worker


def map_threads(function: Callable[[int], Any], indices: Sequence[int]) -> Iterable[Any]:
    """The function's results in order, by one thread for each core; without threads in a worker or for one index.

    Decoding releases the interpreter lock, so threads are enough.
    """
    if get_worker_info() is not None or len(indices) == 1:
        yield from map(function, indices)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(function, indices)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], num_threads: int | None, ahead: int
) -> Generator[Result, None, None]:
    """The function's results in order, of any number of items, computed by threads ahead of need.

    Args:
        function: of one item.
        items: taken one by one, in the caller's thread.
        num_threads: how many threads; None takes one for each core, 0 computes each result when it is asked for.
        ahead: results that may wait for the caller, 1 or more.

    Yields:
        The results. Closing the generator ends the threads.

    Raises:
        ValueError: if the number of threads is negative.
    """
    if num_threads is not None and num_threads < 0:
        raise ValueError(f"num_workers={num_threads}; pass 0 or more, or None for one for each core")
    if num_threads == 0:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads or _cores(), thread_name_prefix="read") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class DecodedFiles(ImageSource):
    """Files that are decoded when they are fetched, by one thread for each core; the base of images and of clips.

    They are upright RGB (see `classifiers.data.decoding`), scaled to cover the wanted size, then cropped.

    Attributes:
        labels: (N,) int64.
        class_names: names of the K classes, by label.
        image_size: (H, W) in pixels.
        crop_pct: share of each side that the center crop keeps; 0.875 is ImageNet's (224 of 256).
        interpolation: how files are scaled, one of `classifiers.data.decoding.INTERPOLATIONS`.
        num_skipped: unreadable files that were left out.
    """

    decodes_files = True

    labels: Tensor
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    num_skipped: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def decode(self, index: int) -> np.ndarray:
        """One image, (H, W, 3) uint8, or clip, (F, H, W, 3); an `UnreadableImageError` if it can't be decoded."""

    @abstractmethod
    def only(self, kept: Tensor) -> Self:
        """The files at (B,) indices."""

    def fetch(self, indices: Tensor) -> Batch:
        images = np.stack(list(map_threads(self.decode, indices.tolist())))
        return batch_without_boxes(images, self.labels[indices])

    def all_labels(self) -> Tensor:
        return self.labels

    def first(self, count: int | None) -> Self:
        """At most `count` of the files, spread evenly over the classes; all of them if None."""
        if count is None or count >= len(self):
            return self
        return self.only(torch.linspace(0, len(self) - 1, count).round().long())

    def without_unreadable(self, on_progress: Callable[[int, int], None] | None = None) -> Self:
        """The files that can be decoded, all tried, with progress (files tried, files in all).

        Raises:
            ValueError: if none is left.
        """

        def is_readable(index: int) -> bool:
            try:
                self.decode(index)
            except UnreadableImageError:
                return False
            return True

        good = torch.zeros(len(self), dtype=torch.bool)
        for index, readable in enumerate(map_threads(is_readable, range(len(self)))):
            good[index] = readable
            if on_progress is not None:
                on_progress(index + 1, len(self))
        if not good.any():
            raise ValueError(f"none of the {len(self)} files can be decoded; pass unreadable='raise' to see why")
        return replace(self.only(good.nonzero()[:, 0]), num_skipped=int((~good).sum()))


_Files = TypeVar("_Files", bound=DecodedFiles)


class ChangingFiles(SourceView[_Files]):
    """Files of which every epoch sees something else.

    Args:
        source: the files.
        seed: of what is seen; for a file it depends on seed, epoch and index alone, so that threads may decode side by
            side.
    """

    epoch = 0

    def __init__(self, source: _Files, seed: int = 0) -> None:
        super().__init__(source)
        self.seed = seed

    def for_epoch(self, epoch: int) -> Self:
        twin = copy.copy(self)
        twin.epoch = epoch
        return twin

    def fetch(self, indices: Tensor) -> Batch:
        images = np.stack(list(map_threads(self.decode, indices.tolist())))
        return batch_without_boxes(images, self.source.labels[indices])

    def decode(self, index: int) -> np.ndarray:
        """What this epoch sees of a file, as `DecodedFiles.decode`."""
        return self.draw(index, np.random.default_rng([self.seed, self.epoch, index]))

    @abstractmethod
    def draw(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """What is seen of a file with the numbers of a generator."""


class Prefetcher(SourceView[ImageSource]):
    """A source whose announced images are fetched by threads, while the networks compute.

    They start with the first image and end with `close`. Copies, pickles and forked processes carry the source; they
    start threads of their own. PyTorch's DataLoader does not fit here: an environment asks for an image or a few, in an
    order that is known one episode ahead.

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
        self._forget_threads()
        _PREFETCHERS.add(self)

    def _forget_threads(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._started: dict[int, Future[Batch]] = {}

    def for_epoch(self, epoch: int) -> Prefetcher:
        return Prefetcher(self.source.for_epoch(epoch), self._num_threads)

    def prefetch(self, indices: np.ndarray) -> None:
        """Starts to fetch images, and drops those that were announced before and no longer are."""
        wanted = set(indices.tolist())
        for index in self._started.keys() - wanted:
            self._started.pop(index).cancel()
        for index in wanted - self._started.keys():
            self._started[index] = self._start(index)

    def fetch(self, indices: Tensor) -> Batch:
        started = [self._started.get(index) or self._start(index) for index in indices.tolist()]
        return Batch(*(torch.cat(parts) for parts in zip(*(one.result() for one in started), strict=True)))

    def close(self) -> None:
        self._started.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        super().close()

    def _start(self, index: int) -> Future[Batch]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._num_threads or os.cpu_count(), thread_name_prefix="prefetch")
        return self._pool.submit(self.source.fetch, torch.tensor([index]))

    def __reduce__(self) -> tuple[Any, ...]:
        return Prefetcher, (self.source, self._num_threads)


_PREFETCHERS: weakref.WeakSet[Prefetcher] = weakref.WeakSet()


def _forget_threads_after_fork() -> None:
    """A forked process has no threads of its parent; the next fetch starts new ones."""
    for prefetcher in _PREFETCHERS:
        prefetcher._forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads_after_fork)


class EpochLoader:
    """Fetches the batches of one epoch after another, always in the order of the epoch's plan.

    Args:
        source: the images.
        num_workers: processes that fetch in advance, at most one per core; they start with the first epoch and end with
            `close`, or with the loader. 0 fetches each batch when it is needed.
        device: where the batches will go; batches for a GPU are in pinned memory.
    """

    def __init__(self, source: ImageSource, num_workers: int, device: torch.device) -> None:
        self._source = source
        self._plan = _Plan()
        self._workers: Iterable[Batch] | None = None
        if num_workers > 0:
            self._workers = DataLoader(
                _Fetcher(source),
                batch_size=None,
                sampler=self._plan,
                collate_fn=_as_it_is,
                num_workers=min(num_workers, _cores()),
                prefetch_factor=_BATCHES_AHEAD,
                persistent_workers=True,
                pin_memory=device.type == "cuda",
                multiprocessing_context=_context(),
            )

    def batches(self, epoch: int, plan: Sequence[Tensor]) -> Iterable[Batch]:
        """Fetches an epoch, counted from 0; the batches come in the order of the plan, the indices of each."""
        if self._workers is None:
            images = self._source.for_epoch(epoch)
            return (images.fetch(indices) for indices in plan)
        self._plan.epoch, self._plan.batches = epoch, plan
        return self._workers

    def close(self) -> None:
        """Ends the workers, once nobody iterates over an epoch; no epoch can be fetched afterwards."""
        self._workers = ()


def _context() -> multiprocessing.context.BaseContext:
    """How workers start: not by a fork of this process, whose threads they would not have."""
    if os.name == "nt":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imported once, not by each worker
    return context


def _cores() -> int:
    """Cores that this process may use, if the system tells; otherwise all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Plan:
    """What the workers fetch: (epoch, indices) of each batch of the current epoch."""

    epoch = 0
    batches: Sequence[Tensor] = ()

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return ((self.epoch, indices.tolist()) for indices in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Fetcher(Dataset[Batch]):
    """A source as a map-style data set of whole batches, whose key is what `_Plan` says."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self._epoch, self._images = -1, source

    def __getitem__(self, wanted: tuple[int, list[int]]) -> Batch:
        epoch, indices = wanted
        if epoch != self._epoch:
            self._epoch, self._images = epoch, self._source.for_epoch(epoch)
        return self._images.fetch(torch.tensor(indices))


def _as_it_is(batch: Any) -> Any:
    return batch
