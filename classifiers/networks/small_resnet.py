"""The small residual network of the embedded task, small enough to train on two processor cores."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a 1x1 shortcut (He et al., 2016, the basic block)."""

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


def small_resnet_parts() -> tuple[nn.Module, nn.Module, int]:
    """A stem of stride 2, two residual blocks and a 3x3 convolution: 6.4 million multiply-adds at 48x48, stride 8.

    Global *max* pooling: only the small region with the sign matters, which an average would drown out.

    Returns:
        The trunk, (B, 3, H, W) -> (B, 96, H / 8, W / 8); the pooling, -> (B, 96); and 96.
    """
    trunk = nn.Sequential(
        _convolution(3, 16, 2), ResidualBlock(16, 32, 2), ResidualBlock(32, 64, 2), _convolution(64, 96, 1)
    )
    return trunk, nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), 96


def _convolution(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
