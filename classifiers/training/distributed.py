"""Several processes, one training: what `torchrun` starts, seen from inside.

Without `torchrun` there is one process and everything here does nothing.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_LONGEST_WAIT = datetime.timedelta(days=7)  # the other processes wait while the first trains the policy


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that `torchrun` started, for as long as the block runs; NCCL on GPUs, else gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def process_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def process_index() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first_process() -> bool:
    """Whether this process is the one that writes and speaks."""
    return process_index() == 0


def local_device(device: str) -> str:
    """The process's own GPU where `device` is `"cuda"`; `device` as it is otherwise."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" and process_count() > 1 else device


def wait_for_all() -> None:
    """Returns once every process has come here."""
    if process_count() > 1:
        distributed.barrier()


def wrap(model: nn.Module) -> nn.Module:
    """The model, its gradients averaged over all processes.

    Batch normalisation sees its own process's images, as usual in data-parallel training; its running statistics are
    averaged by `average_statistics`.
    """
    if process_count() == 1:
        return model
    device = next(model.parameters()).device
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, devices, broadcast_buffers=False, find_unused_parameters=True)


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Averages the running statistics of normalisation layers over all processes."""
    if process_count() == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            _average(buffer)


def mean_over_processes(value: float) -> float:
    """The mean of one number per process."""
    if process_count() == 1:
        return value
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    number = torch.tensor(value, dtype=torch.float64, device=device)
    _average(number)
    return float(number)


def _average(values: Tensor) -> None:
    distributed.all_reduce(values)
    values /= process_count()
