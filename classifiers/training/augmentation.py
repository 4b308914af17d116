"""Random changes to training images that keep their labels valid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment(images: Tensor, generator: torch.Generator, shift_px: int, flip: bool) -> Tensor:
    """Shifts and flips each image of a batch independently.

    Args:
        images: (B, 3, H, W) uint8.
        generator: where the random numbers come from.
        shift_px: largest shift in each direction, in pixels; borders are filled by reflection.
        flip: whether each image is flipped left to right with probability 1/2.

    Returns:
        (B, 3, H, W) uint8.

    Raises:
        ValueError: if the shift is as large as an image.
    """
    count, _, height, width = images.shape
    if shift_px >= min(height, width):
        raise ValueError(f"shift_px={shift_px} exceeds the {height}x{width} images; pass fewer pixels than their sides")
    if shift_px:
        padded = functional.pad(images, (shift_px,) * 4, mode="reflect")
        corners = torch.randint(0, 2 * shift_px + 1, (count, 2), generator=generator).tolist()
        images = torch.stack(
            [image[:, r : r + height, c : c + width] for image, (r, c) in zip(padded, corners, strict=True)]
        )
    if flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        images = torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)
    return images
