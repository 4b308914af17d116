"""The encoders f_G and f_L by name: image networks seen as feature maps, a pooled vector and a classifier of their own.

A new backbone is one entry of `ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn


class Encoding(NamedTuple):
    """What an encoder makes of a batch of images.

    Attributes:
        features: (B, C, h, w) feature maps e_t (Section 3.2), which the patch proposal network reads.
        pooled: (B, F) feature vectors, which the classifier reads.
    """

    features: Tensor
    pooled: Tensor


class Encoder(nn.Module):
    """An image network cut into its trunk, its pooling and its own classifier.

    Args:
        trunk: (B, 3, H, W) -> (B, C, h, w).
        pool: (B, C, h, w) -> (B, F).
        classifier: (B, F) -> (B, K), the network's own last layer.
    """

    def __init__(self, trunk: nn.Module, pool: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.trunk = trunk
        self.pool = pool
        self.classifier = classifier

    @property
    def pooled_size(self) -> int:
        """Length F of the pooled vector."""
        return self.classifier.in_features

    @property
    def num_classes(self) -> int:
        """Number K of classes of its own classifier."""
        return self.classifier.out_features

    def forward(self, images: Tensor) -> Encoding:
        """Encodes normalised images.

        Args:
            images: (B, 3, H, W) float32, normalised.

        Returns:
            The feature maps and the pooled vectors.
        """
        features = self.trunk(images)
        return Encoding(features, self.pool(features))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a 1x1 one (He et al., 2016, the basic block)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h / stride, w / stride)."""
        return torch.relu(self.residual(maps) + self.shortcut(maps))


def _convolution(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _small_resnet(num_classes: int, weights: str | None) -> Encoder:
    """A stem of stride 2, two residual blocks and a 3x3 convolution: 6.4 million multiply-adds at 48x48, stride 8.

    Global *max* pooling: what decides a road scene is the one place where the sign is, which an average would drown.
    """
    if weights is not None:
        raise ValueError(
            f"encoder 'small_resnet' has no weights {weights!r}; leave weights out, it is trained from scratch"
        )
    trunk = nn.Sequential(
        _convolution(3, 16, 2), ResidualBlock(16, 32, 2), ResidualBlock(32, 64, 2), _convolution(64, 96, 1)
    )
    pool = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
    return Encoder(trunk, pool, nn.Linear(96, num_classes))


def _torchvision_resnet(name: str) -> Callable[[int, str | None], Encoder]:
    def build(num_classes: int, weights: str | None) -> Encoder:
        network = torchvision.models.get_model(name, weights=weights)
        parts = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
        trunk = nn.Sequential(*(getattr(network, part) for part in parts))
        classifier = network.fc
        if classifier.out_features != num_classes:
            classifier = nn.Linear(classifier.in_features, num_classes)
        return Encoder(trunk, nn.Sequential(network.avgpool, nn.Flatten()), classifier)

    return build


ENCODERS: dict[str, Callable[[int, str | None], Encoder]] = {
    "small_resnet": _small_resnet,
    "resnet18": _torchvision_resnet("resnet18"),
    "resnet50": _torchvision_resnet("resnet50"),
}
"""Builders by name: `ENCODERS[name](num_classes, weights)`, weights a torchvision weights name or None."""


def build_encoder(name: str, num_classes: int, weights: str | None = None) -> Encoder:
    """Builds an encoder.

    Args:
        name: a key of `ENCODERS`.
        num_classes: number K of classes of its own classifier.
        weights: a torchvision weights name (`"DEFAULT"`, `"IMAGENET1K_V2"`), downloaded once; None for random ones.

    Returns:
        The encoder, in training mode.

    Raises:
        ValueError: if there is no such encoder or no such weights.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder={name!r} is unknown; pass one of {', '.join(ENCODERS)}")
    return ENCODERS[name](num_classes, weights)
