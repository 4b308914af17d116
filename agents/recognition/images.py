"""Converts images or clips for a recognizer into one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from classifiers.data.decoding import to_rgb

Images = Tensor | np.ndarray | Sequence[Any]
"""(N, 3, H, W) tensors, uint8 or normalized float32; (N, H, W, 3) uint8 arrays; or a sequence of single images as
tensors, arrays or PIL images (any kind, see `classifiers.data.decoding`), all of one size. Clips of F frames:
(N, F, 3, H, W) tensors; (N, F, H, W, 3) arrays; or a sequence of single clips, which may be lists of PIL images."""


def as_batch(images: Images, min_side: int = 1, num_frames: int | None = None) -> Tensor:
    """Brings images or clips into one tensor.

    Args:
        images: see `Images`.
        min_side: pixels that each side must have.
        num_frames: frames F that a clip must have; None for images.

    Returns:
        (N, 3, H, W), or (N, F, 3, H, W), uint8 pixels or normalized float32.

    Raises:
        ValueError: if there is no image, or they have several types, another type or shape, or are too small.
        RuntimeError: if they have several sizes.
    """
    kind, frames = ("images", "") if num_frames is None else ("clips", f"{num_frames}, ")
    batch = _as_tensor(images, kind)
    if batch.shape[:1] == (0,):
        raise ValueError(f"{kind} is an empty batch; pass at least one {kind[:-1]}")
    if batch.dtype not in (torch.uint8, torch.float32):
        raise ValueError(f"{kind} are {str(batch.dtype).removeprefix('torch.')}; pass uint8, or normalized float32")
    expected = (3,) if num_frames is None else (num_frames, 3)
    if batch.ndim != len(expected) + 3 or batch.shape[1:-2] != expected:
        shape = tuple(images.shape if isinstance(images, np.ndarray) else batch.shape)
        raise ValueError(f"{kind} have shape {shape}; pass (N, {frames}3, H, W) tensors or (N, {frames}H, W, 3) arrays")
    height, width = batch.shape[-2:]
    if min(height, width) < min_side:
        raise ValueError(
            f"{kind} are {height}x{width}, smaller than the {min_side}x{min_side} patches or glance; pass larger ones"
        )
    return batch


def _as_tensor(images: Any, kind: str) -> Tensor:
    """One image or clip, or several: arrays have their channels last, tensors have them before height and width."""
    if isinstance(images, Tensor):
        return images
    if isinstance(images, Image.Image):
        images = np.array(to_rgb(images))
    if isinstance(images, np.ndarray):
        # a copy of what PyTorch can't use: views that run backwards, another byte order
        array = np.require(images, images.dtype.newbyteorder("="), ["C", "W"])
        return torch.from_numpy(array).movedim(-1, -3) if images.ndim > 2 else torch.from_numpy(array)
    if isinstance(images, str) or not isinstance(images, Sequence):
        raise ValueError(f"{kind} hold a {type(images).__name__}; pass tensors, arrays or PIL images")
    singles = [_as_tensor(image, kind) for image in images]
    types = {single.dtype for single in singles}
    if len(types) > 1:
        raise ValueError(f"{kind} have several types, {', '.join(map(str, types))}; pass those of one type per call")
    return torch.stack(singles) if singles else torch.zeros(0)
