"""The machine that networks run on: its devices and its memory."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
_NEVER, _AT_ONCE = 2**31 - 1, 256 << 20


if hasattr(os, "register_at_fork"):
    # A forked process has none of torch's other threads and would wait for them forever; as DataLoader's workers do.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def usable_device(name: str) -> torch.device:
    """A device by its name, tried out.

    Args:
        name: torch's, such as `"cpu"`, `"cuda"` or `"cuda:1"`.

    Returns:
        The device.

    Raises:
        ValueError: if there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # each backend has its own for a device that is not there
        raise ValueError(f"device={name!r} can't be used on this machine; pass 'cpu' or one that it has") from error
    return device


def tune_malloc() -> bool:
    """Tells glibc's malloc to keep freed memory for the next tensors instead of returning it to the system.

    Feature maps of a batch take tens of megabytes. By default malloc maps fresh pages for each, which the system has to
    zero; that takes up to half of a training step. The setting holds for the whole process, which then keeps the most
    memory that it ever used. Commands that train or evaluate call this once, at their start.

    Returns:
        Whether it was done: only glibc has this.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_MMAP_THRESHOLD: _NEVER, _M_TRIM_THRESHOLD: _NEVER, _M_TOP_PAD: _AT_ONCE}
    return [mallopt(key, value) for key, value in settings.items()] == [1, 1, 1]


class _MallocInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`; `fordblks` are the bytes that malloc keeps although nothing uses them."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks")
    ] + [("keepcost", ctypes.c_size_t)]


def free_memory(device: torch.device) -> int | None:
    """Bytes that tensors can still take on a device.

    Args:
        device: a GPU, or the processor, on which a container's limit counts, too.

    Returns:
        Bytes, with those that this process keeps for its next tensors; None where the system does not say.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type != "cpu" or sys.platform != "linux":
        return None
    found = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
    free = None if found is None else int(found[1]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.stat")
    if free is not None and limit.is_file() and (most := limit.read_text().strip()) != "max":
        of_processes = re.search(r"^anon (\d+)", used.read_text(), re.MULTILINE)
        free = min(free, int(most) - (0 if of_processes is None else int(of_processes[1])))
    malloc_info = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if free is None or malloc_info is None:
        return free
    malloc_info.restype = _MallocInfo
    return free + int(malloc_info().fordblks)
