"""Files that are either whole or not there: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import torch

if sys.platform != "win32":
    import fcntl

_PREFIX, _SUFFIX = ".gfnet-", ".tmp"  # of temporary files; short, so that any name that fits its folder can be written


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file so that a reader, or a process killed at any moment, sees the old file or the new one whole.

    The content goes to a temporary file in the same folder, which is locked for as long as its writer lives. Temporary
    files in that folder that nobody holds a lock on are what killed writers left behind, and are removed.

    Args:
        path: where the file belongs; its folder is created if needed.
        write: writes the content to the stream that it is given.

    Raises:
        OSError: if the disk is full or may not be written; names the file, and nothing is left behind.
    """
    made = make_folder(path.parent)
    temporary: Path | None = None
    try:
        remove_abandoned(path.parent)
        file, temporary = _locked_temporary(path.parent)
        with file, _Stream(file) as stream:
            write(stream)
            stream.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            if sys.platform == "win32":  # an open file can't be renamed there
                file.close()
            temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        remove_empty(made)
        if isinstance(error, OSError) and _is_temporary(error.filename):
            error.filename, error.filename2 = str(path), None  # the name that means something to the user
        raise


def make_folder(path: Path) -> list[Path]:
    """Makes a folder and those above it that are missing.

    Args:
        path: the folder.

    Returns:
        Those that were made, the innermost first, for `remove_empty` if nothing comes of it.

    Raises:
        OSError: if one can't be made.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders, the innermost first, up to the first one that holds something."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


class _Stream(io.BufferedWriter):
    """A stream without a file's number: Pillow would write there by itself, and a full disk be "encoder error -2"."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def _is_temporary(name: Any) -> bool:
    return name is None or (os.path.basename(name).startswith(_PREFIX) and str(name).endswith(_SUFFIX))


def remove_abandoned(folder: Path, *, recursive: bool = False) -> None:
    """Removes the temporary files of writers that were killed; those of living writers, which are locked, stay.

    Args:
        folder: where to look.
        recursive: whether to look in the folders inside it, too.
    """
    for path in folder.glob(f"{'**/' if recursive else ''}{_PREFIX}*{_SUFFIX}"):
        try:
            with path.open("rb") as stream:
                if _lock(stream):
                    path.unlink(missing_ok=True)
        except OSError:
            continue  # already gone, or not ours to remove


def _locked_temporary(folder: Path) -> tuple[io.FileIO, Path]:
    while True:
        handle, name = tempfile.mkstemp(_SUFFIX, _PREFIX, folder)
        stream = io.FileIO(handle, "wb")
        if not _lock(stream, wait=True) or os.path.exists(name):
            return stream, Path(name)
        stream.close()  # removed by another process before the lock was ours


def _lock(stream: IO[bytes] | io.FileIO, *, wait: bool = False) -> bool:
    """Locks an open file until it is closed; false if another process holds it, or there are no locks here."""
    if sys.platform == "win32":
        return False  # nothing is ever taken for abandoned there
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Lets one process at a time do something; the others wait (not on Windows).

    Args:
        path: a file that stands for it, which is created and stays.
    """
    with path.open("ab") as stream:
        _lock(stream, wait=True)
        yield


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 atomically; see `write_atomically`."""
    write_atomically(path, lambda stream: stream.write(text.encode()))


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically; see `write_atomically` and `json_text`."""
    write_text(path, json_text(content, indent=2) + "\n")


DIGEST_MARK = b"GFNet-SHA256"
"""What comes before the digest of a file by `write_torch`."""


class _HashedStream:
    """A stream that knows the digest of what went through it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.digest = stream, hashlib.sha256()
        self.flush = stream.flush

    def write(self, data: bytes) -> int:
        """Passes bytes on."""
        self.digest.update(data)
        return self._stream.write(data)


def write_torch(path: Path, state: Mapping[str, Any]) -> None:
    """Writes tensors and plain values with `torch.save` atomically; see `write_atomically`.

    `DIGEST_MARK` and the SHA-256 of all before it come last, where `torch.load` does not look.
    """

    def write(stream: BinaryIO) -> None:
        hashed = _HashedStream(stream)
        try:
            torch.save(state, hashed)  # type: ignore[arg-type]  # it only writes and flushes
            stream.write(DIGEST_MARK + hashed.digest.digest())
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, behind PyTorch's words for its zip writer
                raise error.__context__ from None
            raise

    write_atomically(path, write)


def json_text(content: Any, *, indent: int | None = None) -> str:
    """Content as valid JSON, which has no NaN and no infinity.

    Args:
        content: dicts, lists, strings, numbers, booleans and None.
        indent: spaces of each level; None writes one line.

    Returns:
        The text.

    Raises:
        ValueError: if a number is NaN or infinite; says where.
    """
    for place, value in _numbers(content, ""):
        if not math.isfinite(value):
            raise ValueError(f"{place or 'the content'} is {value}, which JSON can't hold; write null or leave it out")
    return json.dumps(content, indent=indent, allow_nan=False)


def non_finite_as_null(content: Any) -> Any:
    """The same content with None for numbers that are NaN or infinite, for files in which a gap is no error."""
    if isinstance(content, Mapping):
        return {key: non_finite_as_null(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [non_finite_as_null(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _numbers(content: Any, place: str) -> list[tuple[str, float]]:
    if isinstance(content, float):
        return [(place, content)]
    if isinstance(content, Mapping):
        parts = [(f"{place}.{key}" if place else str(key), value) for key, value in content.items()]
    elif isinstance(content, list | tuple):
        parts = [(f"{place}[{index}]", value) for index, value in enumerate(content)]
    else:
        return []
    return [number for name, value in parts for number in _numbers(value, name)]
