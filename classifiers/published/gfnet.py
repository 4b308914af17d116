"""The checkpoints that the authors published for the first GFNet paper (NeurIPS 2020): 14 of them, one for each row of
Table 9, read without executing code.

A `.pth.tar` file holds `model_name`, `patch_size`, four state dicts (`model_prime_state_dict` is f_G,
`model_state_dict` f_L, `fc` f_C, `policy` pi), multiply-adds and results. Every weight is used, except for those listed
in `left_out`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from classifiers.checkpoints import load_exactly
from classifiers.networks.encoders import Encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import ClassifierSpec
from classifiers.tensor_files import CheckpointError, check_finite, read_torch

STATE_DICTS = ("model_prime_state_dict", "model_state_dict", "fc", "policy")
"""What a checkpoint must hold, besides `model_name` and `patch_size`."""

_HIDDEN_SIZE = 1024  # of every published GRU classifier


@dataclass(frozen=True)
class PublishedModel:
    """What a checkpoint does not contain (from Table 9, Appendix A, and the authors' code).

    Attributes:
        head: a key of `classifiers.networks.heads.HEADS`.
        num_glimpses: T.
        resize_mode: how the image is resized for the glance.
        image_size: side of the square images in pixels.
        crop_pct: fraction of each side of an image that the center crop keeps.
        interpolation: how image files are resized.
        proposal_network: a key of `agents.policies.extractor.PROPOSAL_NETWORKS`.
        glance_logits: what makes the first prediction, see `ClassifierSpec`.
    """

    head: str
    num_glimpses: int
    resize_mode: str
    image_size: int = 224
    crop_pct: float = 0.875
    interpolation: str = "bilinear"
    proposal_network: str = "conv1x1_32"
    glance_logits: str = "head"


_DENSENET = PublishedModel("gru", 5, "bilinear", proposal_network="fc_1024")
_REGNET = PublishedModel("gru", 5, "bilinear", glance_logits="encoder")
_MOBILENET = PublishedModel("cascade", 3, "bicubic")

PUBLISHED: dict[str, PublishedModel] = {
    "resnet50": PublishedModel("gru", 5, "bicubic", proposal_network="fc_1024"),
    "densenet121": _DENSENET,
    "densenet169": _DENSENET,
    "densenet201": _DENSENET,
    "regnety_600m": _REGNET,
    "regnety_800m": _REGNET,
    "regnety_1.6g": _REGNET,
    "mobilenetv3_large_100": _MOBILENET,
    "mobilenetv3_large_125": _MOBILENET,
    "efficientnet_b2": PublishedModel("cascade", 4, "bicubic", image_size=260, interpolation="bicubic"),
    "efficientnet_b3": PublishedModel("cascade", 4, "bicubic", image_size=300, crop_pct=0.904, interpolation="bicubic"),
}
"""The published models by `model_name`, which is also the encoder's name here."""


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A published checkpoint in our terms.

    Attributes:
        model: what its file does not say.
        classifier: f_G, f_L and f_C, in evaluation mode.
        policy: weights of pi by the authors' names.
        results: recorded multiply-adds, accuracies and confidence thresholds, as plain numbers and lists.
        left_out: weights that were not used, as `entry/key`: a cascade's classifiers beyond T.
    """

    model: PublishedModel
    classifier: GlanceFocusClassifier
    policy: dict[str, Tensor]
    results: dict[str, Any]
    left_out: tuple[str, ...]


def read_published(path: Path) -> PublishedCheckpoint:
    """Reads a published checkpoint.

    Args:
        path: a `.pth.tar` file.

    Returns:
        Its networks and results.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is truncated, carries code, or is not such a checkpoint.
    """
    content = read_torch(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; pass one of the 14 published files")
    missing = [name for name in ("model_name", "patch_size", *STATE_DICTS) if name not in content]
    if missing:
        raise CheckpointError(f"{path} is no published GFNet: it holds no {', '.join(missing)}; pass one of the 14")
    name, patch_size = str(content["model_name"]), content["patch_size"]
    if not isinstance(patch_size, int):
        raise CheckpointError(f"{path}: patch_size is {patch_size!r}, not a number of pixels; the file is damaged")
    if name not in PUBLISHED:
        raise CheckpointError(f"{path} is of model_name {name!r}; known are {', '.join(PUBLISHED)}")
    model = PUBLISHED[name]
    dicts = {entry: _plain_names(path, entry, content[entry]) for entry in STATE_DICTS}
    spec = ClassifierSpec(
        encoder=name,
        head=model.head,
        patch_size=patch_size,
        num_glimpses=model.num_glimpses,
        hidden_size=_HIDDEN_SIZE,
        resize_mode=model.resize_mode,
        glance_logits=model.glance_logits,
    )
    num_classes = next((len(value) for key, value in dicts["fc"].items() if key.endswith(".bias") and "fc" in key), 0)
    if num_classes < 2:
        raise CheckpointError(f"{path}: fc holds no classifier; pass one of the 14 published files")
    classifier = GlanceFocusClassifier(spec, num_classes)
    load_encoder(classifier.global_encoder, dicts["model_prime_state_dict"], f"{path}: model_prime_state_dict")
    load_encoder(classifier.local_encoder, dicts["model_state_dict"], f"{path}: model_state_dict")
    left_out = _load_head(classifier, dicts["fc"], f"{path}: fc")
    results = {key: _plain(value) for key, value in content.items() if key not in STATE_DICTS}
    return PublishedCheckpoint(model, classifier.eval(), dicts["policy"], results, left_out)


def load_encoder(encoder: Encoder, weights: Mapping[str, Tensor], where: str) -> None:
    """Loads published weights into an encoder, by name.

    Args:
        encoder: of the same architecture.
        weights: by the names of torchvision, timm or, for RegNets, pycls.
        where: name of the weights in error messages.

    Raises:
        CheckpointError: if a weight is missing, has no place or another shape.
    """
    places = {}
    for name in encoder.state_dict():
        part, _, own = name.partition(".")
        places[f"classifier.{own}" if part == "classifier" else own] = name
    renamed = {_encoder_name(name): value for name, value in weights.items()}
    load_exactly(encoder, {places.get(name, name): value for name, value in renamed.items()}, where)


_PYCLS = (
    (r"^(s\d+\.b\d+)\.proj\.", r"\1.downsample.conv."),
    (r"^(s\d+\.b\d+)\.bn\.", r"\1.downsample.bn."),
    (r"\.f\.a\.", ".conv1.conv."),
    (r"\.f\.a_bn\.", ".conv1.bn."),
    (r"\.f\.b\.", ".conv2.conv."),
    (r"\.f\.b_bn\.", ".conv2.bn."),
    (r"\.f\.se\.f_ex\.0\.", ".se.fc1."),
    (r"\.f\.se\.f_ex\.2\.", ".se.fc2."),
    (r"\.f\.c\.", ".conv3.conv."),
    (r"\.f\.c_bn\.", ".conv3.bn."),
)
_OWN_CLASSIFIER = re.compile(r"^(fc|classifier|head\.fc)\.(weight|bias)$")


def _encoder_name(name: str) -> str:
    """Translates pycls's names to timm's, and the last layer's name of any library to `classifier`."""
    for pattern, replacement in _PYCLS:
        name = re.sub(pattern, replacement, name)
    return _OWN_CLASSIFIER.sub(r"classifier.\2", name)


def _load_head(classifier: GlanceFocusClassifier, weights: Mapping[str, Tensor], where: str) -> tuple[str, ...]:
    if classifier.spec.head == "gru":
        renamed = {re.sub(r"_l0$", "", re.sub(r"^rnn\.", "cell.", key)): value for key, value in weights.items()}
        renamed = {re.sub(r"^fc\.", "classifier.", key): value for key, value in renamed.items()}
        load_exactly(classifier.head, renamed, where)
        return ()
    kept, left_out = {}, []
    for key, value in weights.items():
        match = re.fullmatch(r"fc_(\d+)\.(weight|bias)", key)
        if match and int(match[1]) > classifier.spec.num_glimpses:
            left_out.append(f"fc/{key}")
        else:
            kept[f"classifiers.{int(match[1]) - 2}.{match[2]}" if match else key] = value
    load_exactly(classifier.head, kept, where)
    return tuple(left_out)


def _plain_names(path: Path, entry: str, state: Any) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: {entry} is no state dict; pass one of the 14 published files")
    weights = {str(key).removeprefix("module."): value for key, value in state.items()}
    check_finite(weights, f"{path}: {entry}")
    return weights


def _plain(value: Any) -> Any:
    """Tensors and arrays as numbers and lists, which JSON can hold."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
