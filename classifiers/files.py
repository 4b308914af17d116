"""Files that are either whole or not there: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_TEMPORARY = ".gfnet-*.tmp"
_ABANDONED_SECONDS = 24 * 3600


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes a file so that a reader, or a process killed at any moment, sees the old file or the new one whole.

    A writer that is killed leaves a temporary file in the same folder. The next one to write there removes it when it
    is a day old; a run that begins in the folder removes it at once (`remove_temporary`).

    Args:
        path: the file; its folder is created if needed.
        content: all of it.

    Raises:
        OSError: if the disk is full or can't be written; names the file, and nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_temporary(path.parent, seconds=_ABANDONED_SECONDS)
    # short, so that any name that fits its folder can be written
    temporary = path.parent / _TEMPORARY.replace("*", secrets.token_hex(8))
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # the user knows no temporary file
            error.filename, error.filename2 = str(path), None
        raise


def remove_temporary(folder: Path, *, recursive: bool = False, seconds: float = 0.0) -> None:
    """Removes temporary files that killed writers left.

    Args:
        folder: where to look.
        recursive: whether to look in the folders inside it, too; for callers that nobody writes beside.
        seconds: keeps files that were written later than so long ago.
    """
    latest = time.time() - seconds
    for path in folder.rglob(_TEMPORARY) if recursive else folder.glob(_TEMPORARY):
        with suppress(OSError):  # gone already, or not ours to remove
            if path.stat().st_mtime <= latest:
                path.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file as `write_bytes` does; NaN and infinity become null, as in `json_text`."""
    write_text(path, json_text(content, indent=2) + "\n")


def json_text(content: Any, *, indent: int | None = None) -> str:
    """Content as JSON. NaN and infinity, which JSON doesn't have, become null, as in JavaScript and pandas.

    Args:
        content: dicts, lists, tuples, strings, numbers, booleans and None.
        indent: spaces of each level; None writes one line.

    Returns:
        The text.
    """
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
