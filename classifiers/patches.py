"""Where a patch lies in an image, cutting it out, and resizing the image for the glance.

Convention: order is (row, col) everywhere; a location `l` in [0, 1]^2 places the patch's top-left pixel at
`floor(l * (H - P))`, so 0 is flush with the top or left edge, 1 with the bottom or right edge, and every location is
valid (the rule of the published checkpoints; Section 3.2 speaks of the patch's centre, which is the same up to scale).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

RESIZE_MODES = ("bicubic", "bilinear", "area")
"""Ways to resize an image for the glance; the published models use the first two."""


def top_left_px(location: Tensor, image_size: tuple[int, int], patch_size: int) -> Tensor:
    """Top-left pixel of the patch at each location: floor(l * (H - P)).

    Args:
        location: (B, 2) float in [0, 1], (row, col).
        image_size: (H, W) of the image in pixels.
        patch_size: side P of the square patch in pixels.

    Returns:
        (B, 2) int64, (row, col).
    """
    room = torch.tensor([image_size[0] - patch_size, image_size[1] - patch_size], device=location.device)
    return (location * room).floor().long().clamp(min=torch.zeros_like(room), max=room)


def crop(images: Tensor, top_left: Tensor, patch_size: int, which: Tensor | None = None) -> Tensor:
    """Cuts one square patch from each image.

    Args:
        images: (N, C, H, W), any dtype.
        top_left: (B, 2) int64 top-left pixels, (row, col).
        patch_size: side P in pixels, at most min(H, W).
        which: (B,) int64, the images to cut from; None takes each once, B = N.

    Returns:
        (B, C, P, P), a copy.
    """
    windows = images.unfold(2, patch_size, 1).unfold(3, patch_size, 1)  # (B, C, H-P+1, W-P+1, P, P), a view
    rows, columns = top_left.unbind(1)
    if which is None:
        which = torch.arange(len(images), device=images.device)
    return windows[which, :, rows, columns]


def resize(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resizes images with aligned corners, the rule under which the published models were trained.

    Args:
        images: (B, C, H, W) float.
        size: (H', W') wanted.
        mode: one of `RESIZE_MODES`; `"area"` averages, so it loses nothing between the samples.

    Returns:
        (B, C, H', W') float.
    """
    if tuple(images.shape[-2:]) == size:
        return images
    align_corners = None if mode == "area" else True
    return functional.interpolate(images, size=size, mode=mode, align_corners=align_corners)
