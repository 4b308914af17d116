"""The checkpoints that the authors of TSM published (Lin et al., ICCV 2019): ResNets with temporal shift.

A `.pth.tar` file holds `state_dict`, whose keys are `base_model.` and torchvision's names, all after `module.` or none.
A convolution `conv1.net` is one before which frames are shifted. The classifier is `new_fc`, or `base_model.fc` in
networks that were trained without dropout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.pretrained import read_state_dict
from classifiers.networks.temporal_shift import shifted_convolutions
from classifiers.tensor_files import CheckpointError

_RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}  # by whether blocks have three convolutions, and the number of blocks in each stage
_CENTER_CROP = 0.875  # 224 of 256 pixels


def load_tsm(path: str | Path, *, num_frames: int) -> FullResolutionNetwork:
    """Reads a TSM network; its depth and its number of classes are those of the file.

    Args:
        path: a `.pth.tar` file; no code in it is executed.
        num_frames: frames F of a clip, which the file does not say; its name does (`segment8`).

    Returns:
        The network in evaluation mode: normalized float clips (B, F, 3, H, W) -> logits (B, K), the mean over frames.

    Raises:
        ValueError: if `num_frames` is not a whole number of 1 or more.
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is damaged, carries code, or is no TSM ResNet.
    """
    path = Path(path)
    weights = {name.removeprefix("base_model."): value for name, value in read_state_dict(path).items()}
    num_classes = next((len(value) for name, value in weights.items() if re.fullmatch(r"(new_)?fc\.weight", name)), 0)
    encoder = build_encoder(f"tsm{num_frames}:torchvision:{_resnet(path, weights)}", num_classes, path)
    shifted = {name.removesuffix(".net.weight") for name in weights if name.endswith(".net.weight")}
    if shifted != shifted_convolutions(encoder.trunk):
        found = ", ".join(sorted(shifted)) or "no convolution"
        raise CheckpointError(
            f"{path} shifts frames before {found}, not before those that begin residual branches; pass a TSM ResNet of "
            "the authors"
        )
    encoder.use_preprocessing(Preprocessing(crop_pct=_CENTER_CROP))
    return FullResolutionNetwork(encoder).eval()


def _resnet(path: Path, weights: Mapping[str, Tensor]) -> str:
    """Name of the ResNet in torchvision."""
    found = {match[0] for name in weights if (match := re.match(r"layer(\d+)\.(\d+)\.", name))}
    blocks = tuple(sum(name.startswith(f"layer{stage}.") for name in found) for stage in (1, 2, 3, 4))
    has_three = any(name.startswith("layer1.0.conv3.") for name in weights)
    if (has_three, blocks) not in _RESNETS:
        raise CheckpointError(
            f"{path} holds stages of {', '.join(map(str, blocks))} residual blocks, as no ResNet has; "
            "pass a TSM ResNet of the authors"
        )
    return _RESNETS[has_three, blocks]
