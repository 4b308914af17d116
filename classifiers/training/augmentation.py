"""Random changes to training images that leave their labels true."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment(images: Tensor, generator: torch.Generator, shift_px: int, flip: bool) -> Tensor:
    """Shifts and mirrors each image of a batch on its own.

    Args:
        images: (B, 3, H, W) uint8.
        generator: source of all randomness.
        shift_px: largest shift each way, in pixels; what comes in at the border is reflected.
        flip: whether half of the images are mirrored left to right.

    Returns:
        (B, 3, H, W) uint8.
    """
    count, _, height, width = images.shape
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
