"""An ordinary classification network on whole images: the baseline, and the initial weights of f_L and f_G."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from classifiers.networks.encoders import Encoder
from classifiers.networks.geometry import resize


class FullResolutionNetwork(nn.Module):
    """An encoder and its own classifier on whole images: the baseline, and the initial weights of f_L and f_G.

    Args:
        encoder: the network.
        size: (H', W') that images are resized to first; None keeps their size.
        resize_mode: one of `classifiers.networks.geometry.RESIZE_MODES`.
    """

    def __init__(self, encoder: Encoder, size: tuple[int, int] | None = None, resize_mode: str = "bicubic") -> None:
        super().__init__()
        self.encoder = encoder
        self.size = size
        self.resize_mode = resize_mode

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.encoder.classifier.weight.device

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), uint8 pixels or normalized floats, -> (B, K) logits."""
        inputs = images if self.size is None else resize(images, self.size, self.resize_mode)
        encode = self.encoder.encode_pixels if images.dtype == torch.uint8 else self.encoder
        logits: Tensor = self.encoder.classifier(encode(inputs).pooled)
        return logits
