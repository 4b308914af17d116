"""What a recogniser takes as images, as one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from classifiers.data.decoding import UnreadableImageError, to_rgb

Images = Tensor | np.ndarray | Sequence[Any]
"""(N, 3, H, W) tensors, uint8 or normalised float32; (N, H, W, 3) uint8 arrays; or a sequence of single images as
tensors, arrays or PIL images (any kind, see `classifiers.data.decoding`), all of one size."""


def as_batch(images: Images, least_side: int = 1) -> Tensor:
    """Brings images into one tensor.

    Args:
        images: see `Images`.
        least_side: pixels that each side must have.

    Returns:
        (N, 3, H, W) uint8 pixels or normalised float32.

    Raises:
        ValueError: if there is no image, or they have several sizes, another type, or hold NaN.
    """
    if isinstance(images, Tensor):
        batch = images
    elif isinstance(images, np.ndarray):
        batch = torch.from_numpy(images).movedim(-1, 1) if images.ndim == 4 else torch.from_numpy(images)
    else:
        batch = _stacked(images)
    if len(batch) == 0:
        raise ValueError("images is an empty batch; pass at least one image")
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise ValueError(
            f"images have shape {tuple(images.shape) if isinstance(images, np.ndarray) else tuple(batch.shape)}; pass "
            "(N, 3, H, W) tensors or (N, H, W, 3) arrays"
        )
    if batch.dtype not in (torch.uint8, torch.float32):
        raise ValueError(f"images are {str(batch.dtype).removeprefix('torch.')}; pass uint8, or normalised float32")
    if min(batch.shape[2:]) < least_side:
        raise ValueError(
            f"images are {batch.shape[2]}x{batch.shape[3]}, smaller than the {least_side}x{least_side} patches or "
            "glance; pass larger ones"
        )
    if batch.is_floating_point() and not torch.isfinite(batch).all():
        raise ValueError("images hold NaN or infinity; pass finite pixels")
    return batch


def _stacked(images: Sequence[Any]) -> Tensor:
    singles: list[Tensor] = []
    for image in images:
        if isinstance(image, Image.Image):
            try:
                image = np.array(to_rgb(image))
            except UnreadableImageError as error:
                raise UnreadableImageError(f"image {len(singles)} can't be decoded ({error}); leave it out") from error
        if isinstance(image, np.ndarray):
            image = torch.from_numpy(image).movedim(-1, 0) if image.ndim == 3 else torch.from_numpy(image)
        if not isinstance(image, Tensor):
            raise ValueError(f"images hold a {type(image).__name__}; pass tensors, arrays or PIL images")
        singles.append(image)
    sizes = sorted({tuple(image.shape) for image in singles})
    if len(sizes) > 1:
        raise ValueError(f"images have several shapes, {sizes[0]} and {sizes[1]}; pass those of one size per call")
    types = sorted({str(image.dtype).removeprefix("torch.") for image in singles})
    if len(types) > 1:
        raise ValueError(f"images have several types, {types[0]} and {types[1]}; pass those of one type per call")
    return torch.stack(singles) if singles else torch.zeros(0)
