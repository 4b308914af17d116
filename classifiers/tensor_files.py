"""Named tensors as a safetensors file whose content is checked: reading one executes no code.

The file's header has one entry, named after what the file holds: JSON with facts about the tensors and, as `sha256`,
a hash of facts and tensors. One entry, because safetensors writes several in random order, and equal content is to give
equal bytes. Files without a hash, written by earlier versions, are read unchecked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from classifiers.files import json_text, write_atomically

_HASH = "sha256"


class CheckpointError(ValueError):
    """A file is not the checkpoint that it should be."""


@dataclass(frozen=True)
class TensorFileKind:
    """What a file holds.

    Attributes:
        entry: name of its entry in the header.
        noun: what to call it in an error.
        if_missing: what to do where there is no such file.
        if_damaged: what to do where it can't be used.
    """

    entry: str
    noun: str
    if_missing: str
    if_damaged: str = "restore it from a copy, or delete it and run the command that wrote it again"


def write_tensors(path: Path, kind: TensorFileKind, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors with facts about them, whole or not at all; equal content gives equal bytes.

    Args:
        path: the file, by custom `*.safetensors`.
        kind: what it holds.
        facts: what JSON can hold.
        tensors: by name; no two share memory.

    Raises:
        OSError: if the file can't be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json_text({**facts, _HASH: _content_hash(kind, facts, plain)})
    content = save(plain, {kind.entry: text})  # to memory: safetensors' own writing hides a full disk
    write_atomically(path, lambda stream: stream.write(content))


def read_tensors(path: Path, kind: TensorFileKind) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads what `write_tensors` wrote.

    Args:
        path: the file.
        kind: what it should hold.

    Returns:
        The facts, and the tensors by name, on the CPU; they may be views of the file, so copy what is kept.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is damaged, holds something else, or holds NaN or infinity.
        OSError: if it may not be read.
    """
    way_out = f"files that could carry code, such as pickles, are not read; {kind.if_damaged}"
    metadata, tensors = read_safetensors(path, kind.if_missing, way_out)
    facts = _facts(path, kind, metadata)
    expected = facts.pop(_HASH, None)
    if expected is not None and expected != _content_hash(kind, facts, tensors):
        raise CheckpointError(f"{path} is damaged: its content does not match its hash; {kind.if_damaged}")
    check_finite(tensors, str(path), kind.if_damaged)
    return facts, tensors


def read_safetensors(path: Path, if_missing: str, if_damaged: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Reads any safetensors file.

    Args:
        path: the file.
        if_missing: what to do where there is no such file.
        if_damaged: what to do where it can't be read.

    Returns:
        The header's entries, and the tensors by name, on the CPU; they may be views of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is no safetensors file.
        OSError: if it may not be read.
    """
    _check_readable(path, if_missing)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged or not a safetensors file ({first_line(error)}); {if_damaged}"
        ) from error


def read_pickle(path: Path, if_missing: str) -> Any:
    """Reads what `torch.save` wrote without executing code: tensors, NumPy arrays, plain values and containers of them.

    Args:
        path: the file.
        if_missing: what to do where there is no such file.

    Returns:
        The content, tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is no such file, is damaged, or carries code.
        OSError: if it may not be read.
    """
    _check_readable(path, if_missing)
    # numpy's own parts, in which results may have been saved, by their names of then and now
    harmless: list[Any] = [np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar]
    harmless += [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64)]
    harmless += [(multiarray._reconstruct, "numpy.core.multiarray._reconstruct")]
    harmless += [(multiarray.scalar, "numpy.core.multiarray.scalar")]
    try:
        with torch.serialization.safe_globals(harmless):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} can't be read ({first_line(error)[:160]}); it is damaged, no checkpoint, or carries code, which "
            "is never run"
        ) from error


def _check_readable(path: Path, if_missing: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; {if_missing}")
    with path.open("rb"):
        pass  # says in the system's own words why a file may not be read


def check_finite(tensors: Mapping[str, Tensor], where: str, remedy: str) -> None:
    """Raises if a tensor holds NaN or infinity.

    Args:
        tensors: by name.
        where: what to call them all in an error.
        remedy: what to do then.

    Raises:
        CheckpointError: with the alphabetically first such tensor.
    """
    for name, tensor in sorted(tensors.items()):
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise CheckpointError(f"{where} holds NaN or infinity in {name}; {remedy}")


def _facts(path: Path, kind: TensorFileKind, metadata: Mapping[str, str]) -> dict[str, Any]:
    if kind.entry not in metadata:
        if metadata.get("kind") == kind.entry:
            return {}  # a policy of an earlier version, about which there are no facts
        raise CheckpointError(f"{path} holds tensors but no {kind.noun}; {kind.if_missing}")
    try:
        facts = json.loads(metadata[kind.entry])
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise CheckpointError(f"{path} is damaged: its header entry {kind.entry} is not valid; {kind.if_damaged}")
    return facts


def _content_hash(kind: TensorFileKind, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps([kind.entry, facts], sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    """What an error says, cut to its first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
