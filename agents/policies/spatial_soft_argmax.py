"""The spatial soft arg-max: coordinates from attention maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SpatialSoftArgmax(nn.Module):
    """The centres of mass of a few learned attention maps (Levine et al., 2016).

    Args:
        channels: channels C of the feature maps.
        height: their height h.
        width: their width w.
        count: number K of attention maps.
    """

    places: Tensor

    def __init__(self, channels: int, height: int, width: int, count: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, count, 1)
        rows, columns = torch.linspace(-1.0, 1.0, height), torch.linspace(-1.0, 1.0, width)
        self.register_buffer("places", torch.cartesian_prod(rows, columns), persistent=False)  # (h * w, 2)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 2 K), each (row, col) in [-1, 1]."""
        weights = self.score(maps).flatten(2).softmax(dim=2)  # (B, K, h * w)
        centres: Tensor = weights @ self.places  # (B, K, 2)
        return centres.flatten(1)
