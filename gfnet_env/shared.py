"""What environments with equal arguments have in common within a process: images and networks that never change."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")

_IN_USE: weakref.WeakValueDictionary[Hashable, object] = weakref.WeakValueDictionary()
_LOCK = threading.RLock()


def shared(key: Hashable, make: Callable[[], T]) -> T:
    """The object of a key: the one in use if there is any, else a new one.

    Nothing is kept beyond its last user, and no user may write to it. A forked process goes on with its parent's
    objects.

    Args:
        key: everything that the object depends on. Equal keys of other types count as equal: 1, 1.0 and True.
        make: makes the object; threads that ask meanwhile wait for it.

    Returns:
        The object.
    """
    with _LOCK:
        found = _IN_USE.get(key)
        if found is None:
            made = make()
            _IN_USE[key] = made
            return made
        return found  # type: ignore[return-value]  # the key says what it is


def _renew_lock() -> None:
    """Another thread of the parent may have held the lock, and does not exist in the child."""
    global _LOCK
    _LOCK = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
