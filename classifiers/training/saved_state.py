"""The checkpoint of an unfinished training, read without executing code."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from classifiers.checks import first_line
from classifiers.files import DIGEST_MARK
from classifiers.tensor_files import CheckpointError

_CHUNK = 1 << 20  # bytes read at a time


def load_state(path: Path, keys: Sequence[str], device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads a training's state.

    Args:
        path: the file.
        keys: what it must hold.
        device: where its tensors go.

    Returns:
        The state.

    Raises:
        CheckpointError: if the file is damaged or holds something else.
        OSError: if it may not be read.
    """
    with path.open("rb"):
        pass  # says in the system's own words why a file may not be read
    with usable_state(path):
        _check_digest(path)
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        for key in keys:
            state[key]
        return state


def _check_digest(path: Path) -> None:
    """Raises ValueError if a file is not as it was written. Older files hold checksums of their parts alone."""
    length = hashlib.sha256().digest_size
    with path.open("rb") as stream:
        end = max(0, stream.seek(0, os.SEEK_END) - len(DIGEST_MARK) - length)
        stream.seek(end)
        mark, expected = stream.read(len(DIGEST_MARK)), stream.read()
        if mark == DIGEST_MARK:
            stream.seek(0)
            found = hashlib.sha256()
            for start in range(0, end, _CHUNK):
                found.update(stream.read(min(_CHUNK, end - start)))
            if found.digest() != expected:
                raise ValueError("its content does not match its hash")
            return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()  # PyTorch reads the checksums and does not compare them
    if damaged is not None:
        raise ValueError(f"the content of {damaged} does not match its checksum")


@contextmanager
def usable_state(path: Path) -> Iterator[None]:
    """Turns the errors that a damaged or foreign state causes into a sentence that names the file.

    Args:
        path: the file.

    Raises:
        CheckpointError: if the block fails because of the state.
    """
    try:
        yield
    except Exception as error:  # unpicklers and other people's `load_state_dict` raise whatever a file makes them do
        raise CheckpointError(
            f"{path} is damaged or of another training ({first_line(error)[:80]}); delete it, and its stage starts "
            "again"
        ) from error
