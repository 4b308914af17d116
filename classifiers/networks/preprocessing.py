"""How images are prepared for an encoder; this belongs to its weights, which were trained with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's pixels, RGB in [0, 1]."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of ImageNet's pixels, RGB in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How images were prepared when a network was trained.

    Attributes:
        mean: subtracted from pixels in [0, 1], one value each for R, G and B.
        std: divisor after that, one positive value each.
        interpolation: how image files are resized, one of `classifiers.data.decoding.INTERPOLATIONS`.
        crop_pct: fraction of each side of an image file that the center crop keeps, in (0, 1].
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bilinear"
    crop_pct: float = 1.0


class Normalize(nn.Module):
    """(x / 255 - mean) / std, as one multiplication and one addition.

    Args:
        preprocessing: where mean and standard deviation come from.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        mean, std = (
            torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )
        self.register_buffer("scale", 1.0 / (255.0 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalizes pixels.

        Args:
            pixels: (..., 3, H, W) in [0, 255], uint8 or float.

        Returns:
            The same shape, float32; images (B, 3, H, W) and the frames of clips (B, F, 3, H, W) are laid out
            channels-last, which convolutions prefer.
        """
        if pixels.ndim == 5:
            frames: Tensor = self(pixels.flatten(0, 1))
            return frames.view(*pixels.shape)
        layout = torch.channels_last if pixels.ndim == 4 else torch.contiguous_format
        return torch.addcmul(self.shift, pixels.to(self.scale.dtype, memory_format=layout), self.scale)
