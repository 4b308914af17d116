"""Image files to RGB pixels of one size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps
from torch.utils.data import get_worker_info

_T = TypeVar("_T")

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"})
"""File endings, in lower case, that count as images."""

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
"""How files are scaled, by name."""


class UnreadableImageError(ValueError):
    """An image file could not be decoded."""


def map_threads(function: Callable[[int], Any], indices: Sequence[int]) -> Iterable[Any]:
    """The function's results, in order, computed by one thread per core; without threads in a worker or for one index.

    Decoding releases the interpreter lock, so threads are enough.

    Args:
        function: of an index; must not touch what threads share.
        indices: in the order of the results.

    Yields:
        The results.
    """
    if get_worker_info() is not None or len(indices) == 1:
        yield from map(function, indices)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(function, indices)


def decode_image(
    path: Path, size: tuple[int, int], crop_pct: float = 1.0, interpolation: str = "bilinear"
) -> np.ndarray:
    """Reads an image file in RGB: scaled to cover the size, then cropped.

    Args:
        path: the file.
        size: (H, W) in pixels.
        crop_pct: share of each side that the centre crop keeps.
        interpolation: how it is scaled, one of `INTERPOLATIONS`.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UnreadableImageError: if it can't be decoded.
    """

    def fit(image: Image.Image) -> np.ndarray:
        image.draft("RGB", (2 * size[1], 2 * size[0]))  # lets JPEG skip detail that the scaling would drop
        return fit_image(image, size, crop_pct, interpolation)

    return _opened(path, fit)


def _opened(path: Path, use: Callable[[Image.Image], _T]) -> _T:
    try:
        with Image.open(path) as image:
            return use(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(
            f"{path} can't be decoded ({error}); remove it, or set unreadable to 'skip'"
        ) from error


def fit_image(image: Image.Image, size: tuple[int, int], crop_pct: float, interpolation: str) -> np.ndarray:
    """(H, W, 3) uint8: scaled to cover, centre-cropped."""
    rgb = _to_rgb(image)
    border = 0.5 * (1.0 - crop_pct)
    return np.asarray(ImageOps.fit(rgb, (size[1], size[0]), INTERPOLATIONS[interpolation], bleed=border))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Transparent images lie on white, as a viewer shows them."""
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode.startswith("I"):  # 16 or 32 bits a pixel; convert() would cut, not scale
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
