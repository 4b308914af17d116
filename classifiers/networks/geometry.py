"""Where a patch lies in an image, cropping it, and resizing the image for the glance.

Coordinates are (row, col) everywhere. A location `l` in [0, 1]^2 puts the patch's top-left pixel at
`floor(l * (H - P))`: 0 is flush with the top or left edge, 1 with the bottom or right edge, and every location is valid
(the rule of the published checkpoints; Section 3.2 speaks of the patch's center, which is the same up to scale).
Only the last two dimensions are spatial, so a clip (F, C, H, W) is resized and cropped as an image (C, H, W) is, all
frames at one place.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

RESIZE_MODES = ("bicubic", "bilinear", "area")
"""Ways to resize an image for the glance; the published models use the first two."""

_IMAGES_IN_CACHE = 4  # whose pixels, as floats, fit into a processor's cache


def top_left_px(location: Tensor, image_size: tuple[int, int], patch_size: int | Tensor) -> Tensor:
    """Top-left pixel of the patch at each location: floor(l * (H - P)).

    Args:
        location: (B, 2) float in [0, 1], (row, col).
        image_size: (H, W) of the image in pixels.
        patch_size: side P of the square patch in pixels, one for all or (B,) int64.

    Returns:
        (B, 2) int64, (row, col).
    """
    if isinstance(patch_size, int):
        room = torch.tensor([length - patch_size for length in image_size], device=location.device)
    else:
        room = torch.tensor(image_size, device=location.device) - patch_size[..., None]
    return (location * room).floor().long().clamp(min=0).minimum(room)


def crop_at(images: Tensor, location: Tensor, patch_size: int, image_index: Tensor | None = None) -> Tensor:
    """Crops the square patch at each location.

    Args:
        images: (N, ..., H, W), any dtype.
        location: (B, 2) float in [0, 1], (row, col).
        patch_size: side P in pixels, at most min(H, W).
        image_index: (B,) int64, the image that each patch comes from; None takes each image once, B = N.

    Returns:
        (B, ..., P, P), a copy.
    """
    rows, columns = top_left_px(location.to(images.device), (images.shape[-2], images.shape[-1]), patch_size).unbind(1)
    windows = images.unfold(-2, patch_size, 1).unfold(-2, patch_size, 1)  # (N, ..., H-P+1, W-P+1, P, P), a view
    if image_index is None:
        image_index = torch.arange(len(images), device=images.device)
    return windows.movedim((-4, -3), (1, 2))[image_index, rows, columns]


def crop_scales(
    images: Tensor, location: Tensor, patch_size: int, scales: Sequence[int], image_index: Tensor | None = None
) -> Tensor:
    """Crops concentric squares at each location, coarser the larger they are: RAM's glimpse sensor (arXiv:1406.6247).

    The square of scale s has a side of s * P pixels, each s x s of which are averaged. Scale 1 is `crop_at`'s patch.
    Differs from RAM: beyond the image, the image's border is repeated instead of zeros.

    Args:
        images: (N, ..., H, W), uint8 or float.
        location: (B, 2) float in [0, 1], (row, col), of the patch of scale 1.
        patch_size: side P in pixels, at most min(H, W).
        scales: S whole numbers, 1 or more.
        image_index: see `crop_at`.

    Returns:
        (B, S, ..., P, P) of the type of `images`; whole numbers are rounded.
    """
    height, width = images.shape[-2:]
    corner = top_left_px(location.to(images.device), (height, width), patch_size)
    if image_index is None:
        image_index = torch.arange(len(images), device=images.device)
    which, channels_last = image_index[:, None, None], images.movedim((-2, -1), (1, 2))
    crops = []
    for scale in scales:
        steps = torch.arange(scale * patch_size, device=images.device) - (scale - 1) * patch_size // 2
        rows = (corner[:, :1] + steps).clamp(0, height - 1)  # (B, sP)
        columns = (corner[:, 1:] + steps).clamp(0, width - 1)
        crop = channels_last[which, rows[:, :, None], columns[:, None, :]].movedim((1, 2), (-2, -1))
        if scale > 1:
            parts = crop.unflatten(-1, (patch_size, scale)).unflatten(-3, (patch_size, scale))
            mean = parts.mean((-3, -1), dtype=None if crop.is_floating_point() else torch.float32)
            crop = mean if crop.is_floating_point() else mean.round().to(crop.dtype)
        crops.append(crop)
    return torch.stack(crops, dim=1)


def crop_between_pixels(images: Tensor, location: Tensor, patch_size: int) -> Tensor:
    """Crops the patch whose top-left corner lies at l * (H - P), not rounded, by bilinear interpolation.

    It is differentiable in the location, and equal to `crop_at` where l * (H - P) is a whole number.

    Args:
        images: (B, ..., H, W), any dtype.
        location: (B, 2) float in [0, 1], (row, col).
        patch_size: side P in pixels, at most min(H, W).

    Returns:
        (B, ..., P, P) float32, in the range of `images`.
    """
    height, width = images.shape[-2:]
    room = torch.tensor((height, width), device=location.device) - patch_size
    corner = location * room  # (B, 2)
    whole = corner.detach().floor().long()
    steps = torch.arange(patch_size + 1, device=location.device)
    rows = (whole[:, :1] + steps).clamp(max=height - 1)  # (B, P + 1)
    columns = (whole[:, 1:] + steps).clamp(max=width - 1)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    window = images.movedim((-2, -1), (1, 2))[which, rows[:, :, None], columns[:, None, :]]  # (B, P + 1, P + 1, ...)
    window = window.movedim((1, 2), (-2, -1)).float()
    down, right = (corner - whole).view(-1, 2, *(1,) * (images.ndim - 1)).unbind(1)
    window = (1.0 - down) * window[..., :-1, :] + down * window[..., 1:, :]
    return (1.0 - right) * window[..., :-1] + right * window[..., 1:]


def resize(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resizes images with aligned corners, as the published models were trained.

    Args:
        images: (B, ..., H, W), uint8 or float.
        size: the new (H', W').
        mode: one of `RESIZE_MODES`; `"area"` averages all pixels instead of sampling some.

    Returns:
        (B, ..., H', W') float, in the range of `images`.
    """
    dtype = images.dtype if images.is_floating_point() else torch.float32
    if tuple(images.shape[-2:]) == size:
        return images.to(dtype)
    rows, columns = resizing_matrices((images.shape[-2], images.shape[-1]), size, mode)
    bands = math.gcd(images.shape[-2], size[0]) if mode == "area" else 1  # of rows that are averaged independently
    rows = rows[: size[0] // bands, : images.shape[-2] // bands].to(images.device, dtype)
    columns = columns.to(images.device, dtype)

    def resized(chunk: Tensor) -> Tensor:
        chunk = chunk.to(dtype, memory_format=torch.contiguous_format).contiguous()  # `to` alone leaves 5-D layouts
        width = chunk.shape[-1]
        fewer_rows = rows @ chunk.view(-1, rows.shape[1], width)
        return (fewer_rows.view(-1, width) @ columns).view(*chunk.shape[:-2], *size)

    with torch.autocast(images.device.type, enabled=False):  # bfloat16 would lose bits of the pixels
        at_once = max(1, _IMAGES_IN_CACHE // math.prod(images.shape[1:-3]))  # a clip has several frames
        chunks = images.split(at_once if images.device.type == "cpu" else len(images))
        return torch.cat([resized(chunk) for chunk in chunks])


@functools.lru_cache(maxsize=16)
def resizing_matrices(image_size: tuple[int, int], size: tuple[int, int], mode: str) -> tuple[Tensor, Tensor]:
    """Resizing is linear along each axis, so `rows @ image @ columns` does it, faster than a filter.

    Args:
        image_size: (H, W) of the images.
        size: the new (H', W').
        mode: one of `RESIZE_MODES`.

    Returns:
        rows (H', H) and columns (W, W'), float32, cached and shared by all callers.
    """
    with torch.inference_mode(False):
        rows, columns = (_axis_matrix(*lengths, mode) for lengths in zip(image_size, size, strict=True))
        return rows, columns.T.contiguous()


def _axis_matrix(length: int, new_length: int, mode: str) -> Tensor:
    """(new_length, length): column j is a resized unit impulse at j."""
    impulses = torch.eye(length, dtype=torch.float32)[None, None]  # (1, 1, length, length), one per column
    align_corners = None if mode == "area" else True
    return functional.interpolate(impulses, size=(new_length, length), mode=mode, align_corners=align_corners)[0, 0]
