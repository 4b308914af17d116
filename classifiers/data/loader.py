"""Batches loaded by worker processes while the network computes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from classifiers.data.source import Batch, ImageSource

_BATCHES_AHEAD = 4  # per worker


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
                multiprocessing_context="forkserver",
            )

    def batches(self, epoch: int, plan: Sequence[Tensor]) -> Iterable[Batch]:
        """Fetches an epoch.

        Args:
            epoch: which one, counted from 0.
            plan: indices of each batch.

        Returns:
            The batches in the plan's order, whatever the number of workers.
        """
        if self._workers is None:
            images = self._source.for_epoch(epoch)
            return (images.fetch(indices) for indices in plan)
        self._plan.epoch, self._plan.batches = epoch, plan
        return self._workers

    def close(self) -> None:
        """Ends the workers, once nobody iterates over an epoch; no epoch can be fetched afterwards."""
        self._workers = ()


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
