"""Keeps freed memory in the process: on Linux, giving it back and taking it again takes much of a training step."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
_NEVER, _AT_ONCE = 2**31 - 1, 256 << 20


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep what is freed for the next tensors instead of returning it to the system.

    Feature maps of a batch are tens of megabytes, for each of which malloc otherwise maps fresh pages that the system
    has to zero. It concerns the whole process and is meant for commands, which are about to train or evaluate; the
    process then keeps the most memory that it ever used.

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
