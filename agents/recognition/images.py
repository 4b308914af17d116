"""What a recogniser takes as images or clips, as one tensor."""

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
tensors, arrays or PIL images (any kind, see `classifiers.data.decoding`), all of one size. Clips of F frames:
(N, F, 3, H, W) tensors; (N, F, H, W, 3) arrays; or a sequence of single clips, which may be lists of PIL images."""


def as_batch(images: Images, least_side: int = 1, num_frames: int | None = None) -> Tensor:
    """Brings images or clips into one tensor.

    Args:
        images: see `Images`.
        least_side: pixels that each side must have.
        num_frames: frames F that a clip must have; None for images.

    Returns:
        (N, 3, H, W), or (N, F, 3, H, W), uint8 pixels or normalised float32.

    Raises:
        ValueError: if there is no image, or they have several sizes, another type, or hold NaN, or clips have another
            number of frames.
    """
    kind, frames = ("images", "") if num_frames is None else ("clips", f"{num_frames}, ")
    dims = 4 if num_frames is None else 5
    if isinstance(images, Tensor):
        batch = images
    elif isinstance(images, np.ndarray):
        batch = _as_tensor(images, kind)
        batch = batch.movedim(-1, -3) if images.ndim == dims else batch
    else:
        batch = _stacked(images, kind)
    if batch.ndim > 0 and len(batch) == 0:
        raise ValueError(f"{kind} is an empty batch; pass at least one {kind[:-1]}")
    if batch.ndim != dims or batch.shape[-3] != 3 or (num_frames is not None and batch.shape[1] != num_frames):
        raise ValueError(
            f"{kind} have shape {tuple(images.shape) if isinstance(images, np.ndarray) else tuple(batch.shape)}; pass "
            f"(N, {frames}3, H, W) tensors or (N, {frames}H, W, 3) arrays"
        )
    if batch.dtype not in (torch.uint8, torch.float32):
        raise ValueError(f"{kind} are {str(batch.dtype).removeprefix('torch.')}; pass uint8, or normalised float32")
    if min(batch.shape[-2:]) < least_side:
        raise ValueError(
            f"{kind} are {batch.shape[-2]}x{batch.shape[-1]}, smaller than the {least_side}x{least_side} patches or "
            "glance; pass larger ones"
        )
    if batch.is_floating_point() and not torch.isfinite(batch).all():
        raise ValueError(f"{kind} hold NaN or infinity; pass finite pixels")
    return batch


def _as_tensor(array: np.ndarray, kind: str) -> Tensor:
    """The array itself where PyTorch can use it, else a copy: of views that run backwards, of another byte order."""
    native = array.dtype.newbyteorder("=")
    if native not in (np.uint8, np.float32):
        raise ValueError(f"{kind} are {array.dtype}; pass uint8, or normalised float32")
    return torch.from_numpy(np.require(array, native, ["C", "W"]))


def _stacked(images: Sequence[Any], kind: str) -> Tensor:
    singles = [_single(image, f"{kind[:-1]} {index}", kind) for index, image in enumerate(images)]
    sizes = sorted({tuple(image.shape) for image in singles})
    if len(sizes) > 1:
        raise ValueError(f"{kind} have several shapes, {sizes[0]} and {sizes[1]}; pass those of one size per call")
    types = sorted({str(image.dtype).removeprefix("torch.") for image in singles})
    if len(types) > 1:
        raise ValueError(f"{kind} have several types, {types[0]} and {types[1]}; pass those of one type per call")
    return torch.stack(singles) if singles else torch.zeros(0)


def _single(image: Any, name: str, kind: str) -> Tensor:
    """One image (3, H, W), or one clip (F, 3, H, W), if it has so many dimensions."""
    if isinstance(image, list | tuple) and kind == "clips":
        return _stacked(image, "frames")
    if isinstance(image, Image.Image):
        try:
            image = np.array(to_rgb(image))
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{name} can't be decoded ({error}); leave it out") from error
    if isinstance(image, np.ndarray):
        image = _as_tensor(image, kind)
        image = image.movedim(-1, -3) if image.ndim == (4 if kind == "clips" else 3) else image
    if not isinstance(image, Tensor):
        raise ValueError(f"{kind} hold a {type(image).__name__}; pass tensors, arrays or PIL images")
    return image
