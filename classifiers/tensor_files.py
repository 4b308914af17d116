"""Tensors as files, read without executing code: safetensors for results, PyTorch's format for unfinished trainings."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from classifiers.checks import first_line
from classifiers.files import json_text, write_bytes

_NUMPY: list[Any] = [  # in which results may have been saved, by their names of then and now
    *(np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar),
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64)),
    *((getattr(multiarray, name), f"numpy.core.multiarray.{name}") for name in ("_reconstruct", "scalar")),
]


class CheckpointError(ValueError):
    """A file is not the checkpoint that it should be."""


def write_tensors(path: Path, kind: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file, whole or not at all; equal content gives equal bytes.

    Args:
        path: the file, usually `*.safetensors`.
        kind: what it holds, such as `"gfnet-classifier"`: the header's only entry, since several come in random order.
        facts: the entry's value; what JSON can hold.
        tensors: by name; no two share memory.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, {kind: json_text(facts)}))


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads what `write_tensors` wrote: the facts, and the tensors on the CPU, which may be views of the file.

    Raises:
        CheckpointError: if the file is damaged, holds something else, or holds NaN or infinity.
        OSError: if there is no such file, or it can't be read.
    """
    metadata, tensors = read_safetensors(path)
    if kind not in metadata:
        held = ", ".join(metadata) or "tensors without a header"
        raise CheckpointError(f"{path} holds {held}, not {kind}; pass another file")
    with fitting(path):
        facts = dict(json.loads(metadata[kind]))
    check_finite(tensors, path)
    return facts, tensors


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Raises a `CheckpointError` that names the file, where the block finds that its facts are not what they should."""
    try:
        yield
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged or of another version ({type(error).__name__}: {first_line(error)}); restore it from a "
            "copy or write it again"
        ) from error


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header's entries and the tensors of any safetensors file; for the errors see `read_tensors`."""
    path.open("rb").close()  # the system's own error if it can't be read; not all readers name the file
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or not a safetensors file ({first_line(error)}); restore it or write it again"
        ) from error


def check_finite(tensors: Mapping[str, Tensor], where: object) -> None:
    """Raises a `CheckpointError` with the alphabetically first tensor that holds NaN or infinity."""
    for name, tensor in sorted(tensors.items()):
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise CheckpointError(f"{where} holds NaN or infinity in {name}; pass another file")


def write_torch(path: Path, content: Mapping[str, Any]) -> None:
    """Writes tensors, plain values and containers of them with `torch.save`, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())


def read_torch(path: Path) -> Any:
    """Reads what `torch.save` wrote of tensors, NumPy arrays and plain values, onto the CPU; executes no code.

    Raises:
        CheckpointError: if it is no such file, is damaged, or carries code.
        OSError: if there is no such file, or it can't be read.
    """
    path.open("rb").close()  # as in `read_safetensors`
    try:
        with torch.serialization.safe_globals(_NUMPY):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged, no checkpoint, or carries code, which is never run ({first_line(error)[:160]}); "
            "restore it from a copy, or delete it if a training is to begin again"
        ) from error
