"""Classifiers as files: safetensors, with the shape in the header. Loading one never executes code."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from classifiers.files import write_atomically
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.spec import ClassifierSpec

_CLASSIFIER, _FULL_RESOLUTION = "gfnet-classifier", "gfnet-full-resolution"


class CheckpointError(ValueError):
    """A file is not the checkpoint that it should be."""


def save_classifier(path: Path, classifier: GlanceFocusClassifier, class_names: tuple[str, ...]) -> None:
    """Writes a classifier's shape, weights and class names, whole or not at all.

    Args:
        path: the file, by custom `*.safetensors`.
        classifier: the networks.
        class_names: names of the K classes, by label.

    Raises:
        OSError: if the file can't be written.
    """
    header = {
        "spec": asdict(classifier.spec),
        "preprocessing": asdict(classifier.preprocessing),
        "class_names": class_names,
        "most_glimpses": classifier.head.most_glimpses,
    }
    _save(path, classifier, _CLASSIFIER, header)


def load_classifier(path: Path) -> tuple[GlanceFocusClassifier, tuple[str, ...]]:
    """Reads a classifier.

    Args:
        path: a file that `save_classifier` wrote.

    Returns:
        The classifier in evaluation mode, and its class names.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is not such a checkpoint.
    """
    header, weights = _load(path, _CLASSIFIER)
    try:
        spec = ClassifierSpec(**header["spec"])
        trained = replace(spec, num_glimpses=header.get("most_glimpses") or spec.num_glimpses)
        classifier = GlanceFocusClassifier(trained, len(header["class_names"]))
        classifier.load_state_dict(weights)
        for encoder in (classifier.global_encoder, classifier.local_encoder):
            encoder.use_preprocessing(_preprocessing(header))
        classifier = classifier.with_spec(num_glimpses=spec.num_glimpses)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit this version: {_first_line(error)}; train it anew") from error
    return classifier.eval(), tuple(header["class_names"])


def save_full_resolution(path: Path, network: FullResolutionNetwork, encoder_name: str) -> None:
    """Writes a full-resolution network; see `save_classifier`."""
    header = {
        "encoder": encoder_name,
        "preprocessing": asdict(network.encoder.preprocessing),
        "size": network.size,
        "resize_mode": network.resize_mode,
        "num_classes": network.encoder.num_classes,
    }
    _save(path, network, _FULL_RESOLUTION, header)


def load_full_resolution(path: Path) -> FullResolutionNetwork:
    """Reads a full-resolution network; see `load_classifier`."""
    header, weights = _load(path, _FULL_RESOLUTION)
    size = header["size"]
    encoder = build_encoder(header["encoder"], header["num_classes"])
    network = FullResolutionNetwork(encoder, None if size is None else (size[0], size[1]), header["resize_mode"])
    network.load_state_dict(weights)
    encoder.use_preprocessing(_preprocessing(header))
    return network.eval()


def _preprocessing(header: dict[str, Any]) -> Preprocessing:
    """What a file says of its preprocessing; files from before it was recorded were all trained with ImageNet's."""
    kept: dict[str, Any] = header.get("preprocessing") or {}
    as_written: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()
    }
    return Preprocessing(**as_written)


def _save(path: Path, module: nn.Module, kind: str, header: dict[str, Any]) -> None:
    # a file keeps plain layouts; channels-last ones come back when the network is frozen or trained; what two names
    # share is kept twice
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    write_atomically(path, lambda temporary: save_file(weights, temporary, {kind: json.dumps(header)}))


def _load(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; pass a run's folder or a classifier's .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({_first_line(error)}); "
            "files that could carry code, such as pickles, are not read"
        ) from error
    if kind not in metadata:
        raise CheckpointError(f"{path} holds tensors but no {kind.removeprefix('gfnet-')}; pass one that gfnet wrote")
    return json.loads(metadata[kind]), weights


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
