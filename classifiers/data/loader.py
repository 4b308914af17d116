"""Batches loaded by worker processes while the network computes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from classifiers.data.source import Batch, ImageSource

_BATCHES_AHEAD = 4  # per worker


def prefetch_batches(
    source: ImageSource, plan: Sequence[Tensor], num_workers: int, device: torch.device
) -> Iterable[Batch]:
    """Fetches batches in a given order.

    Args:
        source: the images.
        plan: indices of each batch.
        num_workers: processes that fetch in advance, at most one per core; 0 fetches each batch when it is needed.
        device: where the batches will go; batches for a GPU are in pinned memory.

    Returns:
        The batches in the plan's order, whatever the number of workers.
    """
    if num_workers == 0:
        return (source.fetch(indices) for indices in plan)
    return DataLoader(
        _Fetcher(source),
        batch_sampler=[indices.tolist() for indices in plan],
        collate_fn=_as_it_is,
        num_workers=min(num_workers, _cores()),
        prefetch_factor=_BATCHES_AHEAD,
        pin_memory=device.type == "cuda",
        multiprocessing_context="forkserver",
    )


def _cores() -> int:
    """Cores that this process may use, if the system tells; otherwise all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Fetcher(Dataset[Batch]):
    """A source as a map-style data set that returns whole batches."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, indices: list[int]) -> Batch:
        return self._source.fetch(torch.tensor(indices))

    def __getitem__(self, index: int) -> Batch:
        return self._source.fetch(torch.tensor([index]))


def _as_it_is(batch: Any) -> Any:
    return batch
