"""Files that are either whole or not there: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file so that a reader, or a run killed at any moment, sees the old one or the new one whole.

    Args:
        path: where the file belongs; its folder is made if need be.
        write: writes the content to the path that it is given, in the same folder.

    Raises:
        OSError: if the disk is full or may not be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        write(Path(name))
        with open(name, "rb+") as written:
            os.fsync(written.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically; see `write_atomically`."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically; see `write_atomically`."""
    write_text(path, json.dumps(content, indent=2) + "\n")
