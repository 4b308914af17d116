"""Random changes to training images that keep their labels valid."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as image_functional


class Augmented(NamedTuple):
    """Images and where their places went.

    Attributes:
        images: (B, 3, H, W) or (B, F, 3, H, W), uint8.
        moves: (B, 2, 3) float32 on the CPU: (row, col, 1), in pixels before, times `moves` is (row, col) after.
    """

    images: Tensor
    moves: Tensor


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    shift_px: int = 0,
    flip: bool = False,
    zoom: float = 1.0,
    rotation: float = 0.0,
    color_jitter: float = 0.0,
) -> Augmented:
    """Shifts, flips, zooms, rotates and recolors each image or clip of a batch independently.

    All frames of a clip are changed alike. Borders are filled by reflection.

    Args:
        images: (B, 3, H, W) or (B, F, 3, H, W), uint8.
        generator: where the random numbers come from, on the CPU.
        shift_px: largest shift in each direction, in pixels.
        flip: whether each image is flipped left to right with probability 1/2.
        zoom: largest factor by which an image is enlarged or reduced about its center, 1 or more; factors are drawn
            uniformly on a logarithmic scale.
        rotation: largest angle by which an image is rotated about its center either way, in degrees.
        color_jitter: largest relative change of brightness, contrast and saturation, in [0, 1).

    Returns:
        Images of the same shape, uint8, and where their places went.

    Raises:
        ValueError: if the shift is as large as an image.
    """
    count, (height, width) = len(images), images.shape[-2:]
    if shift_px >= min(height, width):
        raise ValueError(f"shift_px={shift_px} exceeds the {height}x{width} images; pass fewer pixels than their sides")
    moves = torch.eye(2, 3).repeat(count, 1, 1)
    if shift_px:
        padded = functional.pad(images.flatten(0, -4), (shift_px,) * 4, mode="reflect")
        padded = padded.view(*images.shape[:-2], *padded.shape[-2:])
        corners = torch.randint(0, 2 * shift_px + 1, (count, 2), generator=generator)
        images = torch.stack(
            [image[..., r : r + height, c : c + width] for image, (r, c) in zip(padded, corners.tolist(), strict=True)]
        )
        moves[:, :, 2] += shift_px - corners
    if flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        where = mirrored.to(images.device).view(-1, *[1] * (images.ndim - 1))
        images = torch.where(where, images.flip(-1), images)
        moves[mirrored, 1] = torch.tensor([0.0, 0.0, width]) - moves[mirrored, 1]
    if zoom > 1 or rotation:
        images, turned = _zoom_and_rotate(images, generator, zoom, rotation)
        moves[:, :, 2] = torch.einsum("bij,bj->bi", turned[:, :, :2], moves[:, :, 2]) + turned[:, :, 2]
        moves[:, :, :2] = turned[:, :, :2] @ moves[:, :, :2]
    if color_jitter:
        images = _recolored(images, generator, color_jitter)
    return Augmented(images, moves)


def _zoom_and_rotate(images: Tensor, generator: torch.Generator, zoom: float, rotation: float) -> tuple[Tensor, Tensor]:
    """The images, resampled bilinearly, and their moves; see `augment`."""
    count, size = len(images), torch.tensor(images.shape[-2:], dtype=torch.float32)
    uniform = 2 * torch.rand(count, 2, generator=generator) - 1
    scale, angle = torch.exp(uniform[:, 0] * math.log(zoom)), uniform[:, 1] * math.radians(rotation)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    turn = torch.stack([cosine, -sine, sine, cosine], 1).view(count, 2, 2)  # of (row, col) about the center
    moves = torch.cat([turn, (size / 2 - turn @ (size / 2)).unsqueeze(2)], 2)
    # (x, y) in [-1, 1] of the source of every pixel
    backward = torch.linalg.inv(turn) * (size[None, :] / size[:, None])
    backward = torch.cat([backward.flip(1, 2), torch.zeros(count, 2, 1)], 2).to(images.device)
    flat = images.flatten(1, -3).float()  # the frames of a clip beside each other
    with torch.autocast(images.device.type, enabled=False):  # bfloat16 would lose pixels
        grid = functional.affine_grid(backward, list(flat.shape), align_corners=False)
        moved = functional.grid_sample(flat, grid, padding_mode="reflection", align_corners=False)
    return moved.round().clamp(0, 255).to(torch.uint8).view(images.shape), moves


def _recolored(images: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """Other brightness, contrast and saturation, in this order, each by a factor between 1 - amount and 1 + amount."""
    factors = 1 + amount * (2 * torch.rand(len(images), 3, generator=generator) - 1)
    changed = []
    for image, (brightness, contrast, saturation) in zip(images, factors.tolist(), strict=True):
        image = image_functional.adjust_brightness(image, brightness)
        image = image_functional.adjust_contrast(image, contrast)
        changed.append(image_functional.adjust_saturation(image, saturation))
    return torch.stack(changed)
