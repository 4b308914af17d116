"""Pixels to network inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels, RGB in [0, 1]."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels, RGB in [0, 1]."""


class Normalize(nn.Module):
    """(x / 255 - mean) / std, with ImageNet's mean and standard deviation, as one multiplication and addition."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
        self.register_buffer("scale", 1.0 / (255.0 * std), persistent=False)
        self.register_buffer("shift", -torch.tensor(IMAGENET_MEAN).view(3, 1, 1) / std, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalises pixels.

        Args:
            pixels: (B, 3, H, W) in [0, 255], uint8 or float.

        Returns:
            (B, 3, H, W) float32, normalised, laid out channels-last: convolutions run faster on it.
        """
        values = pixels.to(self.scale.dtype, memory_format=torch.channels_last)
        return torch.addcmul(self.shift, values, self.scale)
