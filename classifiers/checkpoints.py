"""Networks as files: safetensors, with the network's shape in the header. Loading one never executes code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.spec import ClassifierSpec
from classifiers.tensor_files import CheckpointError, fitting, read_tensors, write_tensors

_CLASSIFIER, _FULL_RESOLUTION = "gfnet-classifier", "gfnet-full-resolution"


def save_classifier(path: Path | str, classifier: GlanceFocusClassifier, class_names: tuple[str, ...]) -> None:
    """Writes a classifier's shape, weights and class names, whole or not at all.

    Args:
        path: the file, by custom `*.safetensors`.
        classifier: the networks.
        class_names: names of the K classes, by label.

    Raises:
        OSError: if the file can't be written.
    """
    facts = {
        "spec": classifier.spec.model_dump(),
        "preprocessing": asdict(classifier.preprocessing),
        "class_names": class_names,
        "most_glimpses": classifier.head.most_glimpses,
    }
    write_tensors(Path(path), _CLASSIFIER, facts, distinct_tensors(classifier))


def load_classifier(path: Path | str) -> tuple[GlanceFocusClassifier, tuple[str, ...]]:
    """Reads a classifier that `save_classifier` wrote.

    Args:
        path: the file.

    Returns:
        The classifier in evaluation mode, and its class names.

    Raises:
        CheckpointError: if the file is not such a checkpoint, is damaged, or holds NaN or infinite weights.
        OSError: if there is no such file, or it can't be read.
    """
    path = Path(path)
    facts, weights = read_tensors(path, _CLASSIFIER)
    with fitting(path):
        names = tuple(facts["class_names"])
        spec = ClassifierSpec(**facts["spec"])
        trained = spec.replace(num_glimpses=facts["most_glimpses"] or spec.num_glimpses)
        classifier = GlanceFocusClassifier(trained, len(names))
        load_exactly(classifier, weights, path)
        for encoder in (classifier.global_encoder, classifier.local_encoder):
            encoder.use_preprocessing(_preprocessing(facts))
        classifier = classifier.with_spec(num_glimpses=spec.num_glimpses)
    return classifier.eval(), names


def save_full_resolution(path: Path, network: FullResolutionNetwork, encoder_name: str) -> None:
    """Writes a full-resolution network, whole or not at all; its encoder by the name that `build_encoder` knows."""
    facts = {
        "encoder": encoder_name,
        "preprocessing": asdict(network.encoder.preprocessing),
        "size": network.size,
        "resize_mode": network.resize_mode,
        "num_classes": network.encoder.num_classes,
    }
    write_tensors(path, _FULL_RESOLUTION, facts, distinct_tensors(network))


def load_full_resolution(path: Path) -> FullResolutionNetwork:
    """Reads what `save_full_resolution` wrote, in evaluation mode; for the errors see `load_classifier`."""
    facts, weights = read_tensors(path, _FULL_RESOLUTION)
    with fitting(path):
        encoder = build_encoder(facts["encoder"], facts["num_classes"])
        size = facts["size"] and tuple(facts["size"])
        network = FullResolutionNetwork(encoder, size, facts["resize_mode"])
        load_exactly(network, weights, path)
        encoder.use_preprocessing(_preprocessing(facts))
    return network.eval()


def _preprocessing(facts: Mapping[str, Any]) -> Preprocessing:
    kept = facts["preprocessing"]
    return Preprocessing(**{**kept, "mean": tuple(kept["mean"]), "std": tuple(kept["std"])})


def distinct_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's weights and buffers by name; of names that share one tensor, the alphabetically first alone."""
    found: dict[str, Tensor] = {}
    seen = set()
    for name, tensor in sorted(module.state_dict().items()):
        memory = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() == 0 or memory not in seen:
            found[name] = tensor
        seen.add(memory)
    return found


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], where: object) -> None:
    """Loads weights into a module that has a place for each and lacks none; names that share a tensor need it once.

    Raises:
        CheckpointError: if a weight is missing, has no place or another shape; `where` says whose they are.
    """
    own = module.state_dict()
    problems = [f"has no {name}" for name in sorted(distinct_tensors(module).keys() - weights.keys())]
    problems += [f"holds a foreign {name}" for name in sorted(weights.keys() - own.keys())]
    problems += [
        f"holds {name} as {tuple(value.shape)}, not {tuple(own[name].shape)}"
        for name, value in weights.items()
        if name in own and value.shape != own[name].shape
    ]
    if problems:
        more = f", and {len(problems) - 1} more such problems" if len(problems) > 1 else ""
        raise CheckpointError(f"{where} {problems[0]}{more}; it is of another network: pass another file")
    module.load_state_dict(weights, strict=False)
