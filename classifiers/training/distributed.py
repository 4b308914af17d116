"""Training with several processes, as started by `torchrun`.

Without `torchrun` there is one process, and everything here does nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_SECONDS_BETWEEN_LOOKS = 1.0


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that `torchrun` started for the duration of the block; NCCL on GPUs, else gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def process_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def process_index() -> int:
    """The rank of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first_process() -> bool:
    """Whether this process is the one that writes files and reports."""
    return process_index() == 0


def local_device(device: str) -> str:
    """The GPU of this process if `device` is `"cuda"`; else `device` unchanged."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" and process_count() > 1 else device


def wait_for_all() -> None:
    """A barrier: returns once every process has called it."""
    if process_count() > 1:
        distributed.barrier()


def wait_for_first(name: str) -> None:
    """Returns once the first process has called it, however long that takes.

    The others sleep and look into `torchrun`'s store. No collective operation is open, so no timeout applies. They fail
    if the store is gone; `torchrun` ends them if the first one fails.

    Args:
        name: of what they wait for, a new one each time.
    """
    if process_count() == 1:
        return
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = distributed.TCPStore(*address, is_master=False)  # type: ignore[attr-defined]  # in torch's documentation
    if is_first_process():
        store.set(name, "done")
    while not store.check([name]):
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def wrap(model: nn.Module) -> nn.Module:
    """The model with its gradients averaged over all processes.

    Batch normalization sees the images of its own process only, as usual in data-parallel training;
    `average_statistics` averages its running statistics.
    """
    if process_count() == 1:
        return model
    device = next(model.parameters()).device
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, devices, broadcast_buffers=False, find_unused_parameters=True)


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Averages the running statistics of normalization layers over all processes."""
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


def largest_over_processes(value: int) -> int:
    """The largest of one number per process."""
    if process_count() == 1:
        return value
    number = torch.tensor(value, device="cuda" if distributed.get_backend() == "nccl" else "cpu")
    distributed.all_reduce(number, distributed.ReduceOp.MAX)
    return int(number)


def _average(values: Tensor) -> None:
    distributed.all_reduce(values)
    values /= process_count()
