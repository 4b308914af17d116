"""Image files to RGB pixels of one size. Needs Pillow and NumPy alone: exported recognizers carry a copy of this file.

Images come out upright, as EXIF says; transparent parts lie on white; 16-bit values keep their high byte; CMYK and
palettes become what Pillow makes of them, without color profiles; of an animation the first frame is taken. Pixels of
other kinds (floats, 32-bit integers) have no known white, and raise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".avif", ".ppm", ".pgm", ".tif", ".tiff", ".gif"}
)
"""File endings, in lower case, that count as images."""

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF")  # by content; others may start programs (EPS)

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
"""How files are scaled, by name."""

_ORIENTATION = 0x0112  # EXIF's tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what makes an image of each EXIF orientation upright


class UnreadableImageError(ValueError):
    """An image could not be decoded, or its pixels have no known meaning."""


def decode_image(
    path: Path | str | BinaryIO,
    size: tuple[int, int],
    crop_pct: float = 1.0,
    interpolation: str = "bilinear",
    name: str | None = None,
) -> np.ndarray:
    """Reads an image file in RGB: scaled to cover the size, then cropped.

    Args:
        path: the file, or an open one.
        size: (H, W) in pixels.
        crop_pct: share of each side that the center crop keeps.
        interpolation: how it is scaled, one of `INTERPOLATIONS`.
        name: what errors call it; None for the path.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UnreadableImageError: if it can't be decoded.
    """
    with _opened(path, name) as image:
        height, width = size if _orientation(image) < 5 else size[::-1]
        image.draft("RGB", (2 * width, 2 * height))  # skips detail of a JPEG that the scaling would drop
        return fit_image(image, size, crop_pct, interpolation)


def decode_whole(path: Path | str) -> Image.Image:
    """Reads an image file in RGB at the size that it has on disk.

    Raises:
        UnreadableImageError: if it can't be decoded.
    """
    with _opened(path) as image:
        return to_rgb(image)


def upright_size(path: Path | str) -> tuple[int, int]:
    """(H, W) in pixels of an image file once it is upright, from its header alone.

    Raises:
        UnreadableImageError: if the header can't be read.
    """
    with _opened(path) as image:
        return (image.height, image.width) if _orientation(image) < 5 else image.size


def fit_image(image: Image.Image, size: tuple[int, int], crop_pct: float, interpolation: str) -> np.ndarray:
    """An image in RGB, scaled to cover a size, then cropped; see `decode_image`.

    Gives the pixels of torchvision's and timm's pipelines: one side is scaled to the size's divided by `crop_pct`,
    rounded down, the other one, which is longer than needed, in proportion, and the center is cut out.
    """
    rgb = to_rgb(image)
    rows, columns, top, left = _scaled_and_cut((rgb.height, rgb.width), size, crop_pct)
    scaled = rgb.resize((columns, rows), INTERPOLATIONS[interpolation])
    return np.asarray(scaled.crop((left, top, left + size[1], top + size[0])))


def center_crop(
    image_size: tuple[int, int], size: tuple[int, int], crop_pct: float
) -> tuple[float, float, float, float]:
    """The part of an upright image that `fit_image` keeps.

    Args:
        image_size: (H, W) of the image in pixels.
        size: (H, W) that the part is scaled to.
        crop_pct: share of each side that the center crop keeps.

    Returns:
        (left, top, right, bottom) in pixels of the image, with fractions.
    """
    rows, columns, top, left = _scaled_and_cut(image_size, size, crop_pct)
    row, column = image_size[0] / rows, image_size[1] / columns  # sides in the image of a pixel of the part
    return left * column, top * row, (left + size[1]) * column, (top + size[0]) * row


def _scaled_and_cut(image_size: tuple[int, int], size: tuple[int, int], crop_pct: float) -> tuple[int, int, int, int]:
    """Height and width to which an image (H, W) is scaled, and top and left of the part that is cut out of that."""
    height, width = image_size
    rows, columns = (math.floor(side / crop_pct + 1e-6) for side in size)  # 224 / (224 / 232) is 231.99...
    if columns * height >= rows * width:
        rows = columns * height // width
    else:
        columns = rows * width // height
    return rows, columns, round((rows - size[0]) / 2), round((columns - size[1]) / 2)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB, upright; see the module for what becomes of each kind.

    Raises:
        UnreadableImageError: if it can't be decoded, or its pixels have no known meaning.
    """
    try:
        rgb = _flattened(image)
        turn = _UPRIGHT.get(_orientation(image))
        return rgb if turn is None else rgb.transpose(turn)
    except Exception as error:  # decoders raise whatever a damaged file makes them do
        raise UnreadableImageError(str(error) or type(error).__name__) from error


def _flattened(image: Image.Image) -> Image.Image:
    """8-bit RGB of an image, transparent parts on white."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are Pillow's mode {image.mode}, of which no value is white; save it with 8 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


@contextmanager
def _opened(path: Path | str | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            yield image
    except Exception as error:  # see `to_rgb`
        is_other = isinstance(error, UnidentifiedImageError)
        reason = f"it is not one of {', '.join(_FORMATS)}" if is_other else str(error) or type(error).__name__
        raise UnreadableImageError(
            f"{name or path} can't be decoded ({reason}); remove it, or have unreadable files skipped"
        ) from error


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1, upright, where there is none or it can't be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data says nothing about the pixels
        return 1
