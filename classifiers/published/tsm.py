"""The checkpoints that the authors of TSM published (Lin et al., ICCV 2019): ResNets with temporal shift.

A `.pth.tar` file holds `state_dict`, whose keys are `base_model.` and torchvision's names, all after `module.` or none.
A convolution `conv1.net` is one before which frames are shifted. The classifier is `new_fc`, or `base_model.fc` in
networks that were trained without dropout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torchvision
from torch import Tensor, nn

from classifiers.checkpoints import load_exactly
from classifiers.networks.encoders import Encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.temporal_shift import shift_frames
from classifiers.networks.tracing import split_network
from classifiers.tensor_files import CheckpointError, check_finite, read_torch

_BLOCKS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}  # by whether blocks have three convolutions, and the number of blocks in each stage
_REMEDY = "pass a TSM ResNet of the authors"
_CENTRE_CROP = 0.875  # 224 of 256 pixels


def load_tsm(path: str | Path, *, num_frames: int) -> FullResolutionNetwork:
    """Reads a TSM network; its depth, its shifts and its number of classes are those of the file.

    Args:
        path: a `.pth.tar` file; no code in it is executed.
        num_frames: frames F of a clip, which the file does not say; its name does (`segment8`).

    Returns:
        The network in evaluation mode: normalised float clips (B, F, 3, H, W) -> logits (B, K), the mean over frames.

    Raises:
        ValueError: if `num_frames` is not a whole number of 1 or more; from the network, if clips have other numbers of
            frames.
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is damaged, carries code, or is no TSM ResNet.
    """
    if isinstance(num_frames, bool) or not isinstance(num_frames, int) or num_frames < 1:
        raise ValueError(f"num_frames={num_frames!r}; pass the number of frames of a clip, such as 8")
    path = Path(path)
    content = read_torch(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint; {_REMEDY}")
    weights = _plain_names(path, content.get("state_dict"))
    shifted = {name.removesuffix(".net.weight") for name in weights if name.endswith(".net.weight")}
    if not shifted:
        raise CheckpointError(f"{path} holds a network without temporal shift (no key ends in .net.weight); {_REMEDY}")
    name, num_classes = _architecture(path, weights), len(weights["fc.weight"])
    foreign = sorted(convolution for convolution in shifted if not re.fullmatch(r"layer\d\.\d+\.conv1", convolution))
    if foreign:
        raise CheckpointError(f"{path} shifts frames before {foreign[0]}, which begins no residual branch; {_REMEDY}")
    trunk, pool, classifier = split_network(torchvision.models.get_model(name), name)
    encoder = Encoder(
        shift_frames(trunk, num_frames, name, shifted),
        pool,
        nn.Linear(classifier.in_features, num_classes),
        Preprocessing(crop_pct=_CENTRE_CROP),
        num_frames,
    )
    plain = {name.replace(".net.", "."): value for name, value in weights.items()}
    load_exactly(encoder, {_place(name): value for name, value in plain.items()}, path)
    return FullResolutionNetwork(encoder).eval()


def _plain_names(path: Path, state: object) -> dict[str, Tensor]:
    """The weights by torchvision's names, `.net` included."""
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no weights under 'state_dict'; {_REMEDY}")
    weights = {}
    for key, value in state.items():
        plain = str(key).removeprefix("module.")
        if not plain.startswith(("base_model.", "new_fc.")):
            raise CheckpointError(f"{path} holds {key}, where keys of TSM begin with base_model. or new_fc.; {_REMEDY}")
        weights[plain.removeprefix("base_model.").replace("new_fc.", "fc.")] = value
    if len(weights) < len(state):
        raise CheckpointError(f"{path} holds a weight twice, with and without 'module.'; {_REMEDY}")
    check_finite(weights, path)
    if weights.get("fc.weight", Tensor()).ndim != 2:
        raise CheckpointError(
            f"{path} holds no classifier new_fc.weight; it is damaged or of another network: {_REMEDY}"
        )
    return weights


def _architecture(path: Path, weights: Mapping[str, Tensor]) -> str:
    """Name of the ResNet in torchvision."""
    found = {(int(match[1]), int(match[2])) for name in weights if (match := re.match(r"layer(\d+)\.(\d+)\.", name))}
    blocks = tuple(sum(stage == number for stage, _ in found) for number in (1, 2, 3, 4))
    has_three = any(re.fullmatch(r"layer1\.0\.conv3\.(net\.)?weight", name) for name in weights)
    if (has_three, blocks) not in _BLOCKS:
        raise CheckpointError(
            f"{path} holds stages of {', '.join(map(str, blocks))} residual blocks, as no ResNet has: "
            f"it is damaged or of another network; {_REMEDY}"
        )
    return _BLOCKS[has_three, blocks]


def _place(name: str) -> str:
    part, _, own = name.partition(".")
    return f"classifier.{own}" if part == "fc" else f"trunk.{name}"
