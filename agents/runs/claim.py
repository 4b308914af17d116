"""Who may write to a run's folder: one process at a time, with settings that match the stages done so far."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from agents.runs.config import RunConfig
from agents.runs.config_files import dump_config, flat_settings, load_run_config
from agents.runs.folder import RunFolder
from agents.runs.stages import STAGES, Stage, changed_setting
from agents.runs.yaml_text import ConfigError
from classifiers.checks import shortened
from classifiers.files import make_folder, remove_empty, remove_temporary, write_text
from classifiers.training.distributed import is_first_process

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"
"""Name of the file that is locked while a process works on a folder."""

_held: set[int] = set()  # open handles of locks
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from working on a folder for as long as the block runs.

    The operating system frees the lock when its process ends, however it ends; processes that it forked don't keep it.
    Under `torchrun`, the first process holds it for all. Folders that were made for nothing are removed again.

    Args:
        folder: of a run or a study; made if need be.

    Raises:
        ConfigError: if another process holds it.
        OSError: if the folder can't be written.
    """
    if not is_first_process():
        yield
        return
    made = make_folder(folder)
    path = folder / LOCK
    handle = _open_locked(path)
    _held.add(handle)
    try:
        with suppress(OSError):  # a full disk: who holds the lock is then unknown, but it holds
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        _held.discard(handle)
        if sys.platform == "win32":  # an open file can't be removed there
            os.close(handle)
            path.unlink(missing_ok=True)
        else:
            path.unlink(missing_ok=True)
            os.close(handle)
        remove_empty(made)


def _close_inherited() -> None:
    """A forked process shares its parent's locks until it closes them, and may outlive it."""
    while _held:
        os.close(_held.pop())


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_inherited)


def _open_locked(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _NO_LOCKS_HERE:
                return handle
            pid = os.pread(handle, 32, 0).decode(errors="replace") if sys.platform != "win32" else ""
            os.close(handle)
            who = f"process {pid}" if pid.isdigit() else "another process"
            raise ConfigError(
                f"{who} is at work on {path.parent}; wait until it is done, or pass another folder"
            ) from error
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
        os.close(handle)  # its last holder removed it in between


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def claimed(folder: Path, config: RunConfig, stages: Sequence[Stage] = STAGES) -> Iterator[None]:
    """Locks a folder and writes the config of what is done there, for as long as the block runs.

    A run that fails before it has written anything else leaves no folder behind.

    Args:
        folder: of a run or a study.
        config: its settings.
        stages: what it consists of.

    Raises:
        ConfigError: if another process is at work there, or a stage has begun with other settings.
        OSError: if the folder can't be written.
    """
    path = RunFolder(folder).config
    is_new = not path.is_file()
    with locked(folder):
        if is_first_process():
            remove_temporary(folder, recursive=True)
            check_settings(folder, config, stages)
            text = dump_config(config)
            if is_new or path.read_text(encoding="utf-8") != text:
                write_text(path, text)
        try:
            yield
        except (ValueError, OSError):
            if is_new and is_first_process() and {*folder.iterdir()} <= {path, folder / LOCK}:
                path.unlink(missing_ok=True)
            raise


def check_settings(folder: Path, config: RunConfig, stages: Sequence[Stage] = STAGES) -> None:
    """Checks that the stages of a folder that have begun depend on nothing that a config changes.

    Args:
        folder: of a run or a study; may be new.
        config: what is to be run there.
        stages: what it consists of.

    Raises:
        ConfigError: if a stage has begun with another setting; says which.
    """
    if not RunFolder(folder).config.is_file():
        return
    before = load_run_config(folder)
    for index, stage in enumerate(stages, 1):
        key = changed_setting(before, config, stages[:index]) if stage.files_in(folder) else None
        if key is not None:
            old, new = (shortened(str(flat_settings(each).get(key))) for each in (before, config))
            raise ConfigError(
                f"{folder} holds a run whose {stage.name} has begun with {key}={old}, not {new}; pass another --out, "
                "or the setting that it began with"
            )
