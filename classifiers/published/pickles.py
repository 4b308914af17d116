"""Checkpoints that `torch.save` wrote, read without executing code in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

from classifiers.tensor_files import CheckpointError, first_line


def read_pickle(path: Path, remedy: str) -> dict[str, Any]:
    """Reads a dict of tensors, numbers, strings and NumPy arrays.

    Args:
        path: the file.
        remedy: what to do where it is not such a file.

    Returns:
        The dict, its tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, carries code, or holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; {remedy}")
    # numpy's own parts, in which results may have been saved, by their names of then and now
    harmless: list[Any] = [np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar]
    harmless += [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64)]
    old_names = [(multiarray._reconstruct, "numpy.core.multiarray._reconstruct")]
    old_names += [(multiarray.scalar, "numpy.core.multiarray.scalar")]
    try:
        with torch.serialization.safe_globals([*harmless, *old_names]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} can't be read ({first_line(error)[:160]}); it is damaged, no checkpoint, or carries code, which "
            "is never run"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint; {remedy}")
    return content
