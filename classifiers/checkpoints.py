"""Networks as files: safetensors, with the network's shape in the header. Loading one never executes code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from classifiers.checks import first_line
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.spec import ClassifierSpec
from classifiers.tensor_files import CheckpointError, TensorFileKind, read_tensors, write_tensors

_CLASSIFIER = TensorFileKind(
    "gfnet-classifier", "classifier", "pass a run's folder or a classifier's .safetensors file"
)
_FULL_RESOLUTION = TensorFileKind(
    "gfnet-full-resolution", "full-resolution network", "pass the folder of a run that trained one"
)
_WAY_OUT = "it is damaged or of another network: restore it from a copy or train it again"


def save_classifier(path: Path, classifier: GlanceFocusClassifier, class_names: tuple[str, ...]) -> None:
    """Writes a classifier's shape, weights and class names, whole or not at all.

    Args:
        path: the file, by custom `*.safetensors`.
        classifier: the networks.
        class_names: names of the K classes, by label.

    Raises:
        OSError: if the file can't be written.
    """
    facts = {
        "spec": asdict(classifier.spec),
        "preprocessing": asdict(classifier.preprocessing),
        "class_names": class_names,
        "most_glimpses": classifier.head.most_glimpses,
    }
    write_tensors(path, _CLASSIFIER, facts, distinct_tensors(classifier))


def load_classifier(path: Path) -> tuple[GlanceFocusClassifier, tuple[str, ...]]:
    """Reads a classifier.

    Args:
        path: a file that `save_classifier` wrote.

    Returns:
        The classifier in evaluation mode, and its class names.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is not such a checkpoint, is damaged, or holds NaN or infinite weights.
    """
    facts, weights = read_tensors(path, _CLASSIFIER)
    with _naming(path, _CLASSIFIER):
        names = facts["class_names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError("class_names is not a list of names")
        spec = ClassifierSpec(**facts["spec"])
        trained = replace(spec, num_glimpses=facts.get("most_glimpses") or spec.num_glimpses)
        classifier = GlanceFocusClassifier(trained, len(names))
        load_exactly(classifier, weights, str(path))
        for encoder in (classifier.global_encoder, classifier.local_encoder):
            encoder.use_preprocessing(_preprocessing(facts))
        classifier = classifier.with_spec(num_glimpses=spec.num_glimpses)
    return classifier.eval(), tuple(names)


def save_full_resolution(path: Path, network: FullResolutionNetwork, encoder_name: str) -> None:
    """Writes a full-resolution network; see `save_classifier`."""
    facts = {
        "encoder": encoder_name,
        "preprocessing": asdict(network.encoder.preprocessing),
        "size": network.size,
        "resize_mode": network.resize_mode,
        "num_classes": network.encoder.num_classes,
    }
    write_tensors(path, _FULL_RESOLUTION, facts, distinct_tensors(network))


def load_full_resolution(path: Path) -> FullResolutionNetwork:
    """Reads a full-resolution network; see `load_classifier`."""
    facts, weights = read_tensors(path, _FULL_RESOLUTION)
    with _naming(path, _FULL_RESOLUTION):
        encoder = build_encoder(facts["encoder"], facts["num_classes"])
        size = None if facts["size"] is None else _height_and_width(facts["size"])
        network = FullResolutionNetwork(encoder, size, facts["resize_mode"])
        load_exactly(network, weights, str(path))
        encoder.use_preprocessing(_preprocessing(facts))
    return network.eval()


def _preprocessing(facts: Mapping[str, Any]) -> Preprocessing:
    """What a file says of its preprocessing; files from before it was recorded were all trained with ImageNet's."""
    kept: dict[str, Any] = facts.get("preprocessing") or {}
    as_written: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()
    }
    return Preprocessing(**as_written)


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


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Loads weights into a module that has a place for each and lacks none; names that share a tensor need it once.

    Args:
        module: takes the weights.
        weights: by the module's names.
        where: what to call the weights in an error.

    Raises:
        CheckpointError: if a weight is missing, has no place or another shape.
    """
    own = module.state_dict()
    missing, foreign = distinct_tensors(module).keys() - weights.keys(), weights.keys() - own.keys()
    if missing or foreign:
        what = f"has no {sorted(missing)[0]}" if missing else f"holds a foreign {sorted(foreign)[0]}"
        raise CheckpointError(f"{where} {what} ({len(missing)} missing, {len(foreign)} foreign); {_WAY_OUT}")
    for name, value in weights.items():
        if value.shape != own[name].shape:
            raise CheckpointError(f"{where}: {name} is {tuple(value.shape)}, not {tuple(own[name].shape)}; {_WAY_OUT}")
    module.load_state_dict(weights, strict=False)


def _height_and_width(size: Any) -> tuple[int, int]:
    height, width = size
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
        raise ValueError(f"size={size!r} is not a height and a width")
    return height, width


@contextmanager
def _naming(path: Path, kind: TensorFileKind) -> Iterator[None]:
    """Names the file where its header does not describe a network; a library that is missing is said as it is."""
    try:
        yield
    except (CheckpointError, ImportError):
        raise
    except Exception as error:  # whatever a network's parts make of a header that describes none
        raise CheckpointError(
            f"{path} does not fit this version ({type(error).__name__}: {first_line(error)}); {kind.if_damaged}"
        ) from error
