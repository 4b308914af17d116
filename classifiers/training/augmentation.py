"""Random changes to training images that keep their labels valid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment(images: Tensor, generator: torch.Generator, shift_px: int, flip: bool) -> Tensor:
    """Shifts and flips each image or clip of a batch independently, all frames of a clip alike.

    Args:
        images: (B, 3, H, W) or (B, F, 3, H, W), uint8.
        generator: where the random numbers come from.
        shift_px: largest shift in each direction, in pixels; borders are filled by reflection.
        flip: whether each image is flipped left to right with probability 1/2.

    Returns:
        The same shape, uint8.

    Raises:
        ValueError: if the shift is as large as an image.
    """
    count, (height, width) = len(images), images.shape[-2:]
    if shift_px >= min(height, width):
        raise ValueError(f"shift_px={shift_px} exceeds the {height}x{width} images; pass fewer pixels than their sides")
    if shift_px:
        padded = functional.pad(images.flatten(0, -4), (shift_px,) * 4, mode="reflect")
        padded = padded.view(*images.shape[:-2], *padded.shape[-2:])
        corners = torch.randint(0, 2 * shift_px + 1, (count, 2), generator=generator).tolist()
        images = torch.stack(
            [image[..., r : r + height, c : c + width] for image, (r, c) in zip(padded, corners, strict=True)]
        )
    if flip:
        mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
        images = torch.where(mirrored.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)
    return images
