"""Image files to RGB pixels of one size. Needs Pillow and NumPy alone: exported recognisers carry a copy of this file.

How the pixels of each kind of image become 8-bit RGB:

    orientation     EXIF's is honoured: images come out upright
    transparency    lies on white, as viewers show it, whether an alpha channel or one transparent colour
    16-bit values   keep their high byte; 12-bit TIFFs are scaled likewise
    floats          0 to 1 is black to white; an image with other values, NaN included, raises
    32-bit integers raise, for nothing says which value is white (TIFF); Pillow's mode `I` is otherwise 16-bit
    CMYK, palettes  as Pillow converts them, without colour profiles
    animations      the first frame
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

_T = TypeVar("_T")

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"})
"""File endings, in lower case, that count as images."""

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")  # by content; others may start programs (EPS)

MAX_PIXELS = 89_478_485
"""Images with more pixels raise before they are decoded; Pillow, too, suspects a decompression bomb there."""

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
"""How files are scaled, by name."""

_STRIP = 16  # times the length that is used of an image
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what makes an image of each EXIF orientation upright
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 258, 262, 274  # TIFF tags


class UnreadableImageError(ValueError):
    """An image could not be decoded, or its pixels have no known meaning."""


def decode_image(
    path: Path | str, size: tuple[int, int], crop_pct: float = 1.0, interpolation: str = "bilinear"
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
        if image.format in ("JPEG", "MPO"):
            height, width = size if _orientation(image) < 5 else size[::-1]
            image.draft("RGB", (2 * width, 2 * height))  # skips detail that the scaling would drop
        return fit_image(image, size, crop_pct, interpolation)

    return _opened(path, fit)


def decode_whole(path: Path | str) -> Image.Image:
    """Reads an image file in RGB at the size that it has on disk.

    Raises:
        UnreadableImageError: if it can't be decoded.
    """
    return _opened(path, to_rgb)


def fit_image(image: Image.Image, size: tuple[int, int], crop_pct: float, interpolation: str) -> np.ndarray:
    """An image in RGB, scaled to cover a size, then cropped; see `decode_image`.

    Gives the pixels of torchvision's and timm's pipelines: one side is scaled to the size's divided by `crop_pct`,
    rounded down, the other one, which is longer than needed, in proportion, and the centre is cut out.
    """
    rgb = to_rgb(image)
    fit = _fit((rgb.width, rgb.height), size, crop_pct)
    scaled = rgb.crop(fit.used).resize(fit.whole, INTERPOLATIONS[interpolation])
    return np.asarray(scaled.crop((fit.left, fit.top, fit.left + size[1], fit.top + size[0])))


def centre_crop(
    image_size: tuple[int, int], size: tuple[int, int], crop_pct: float
) -> tuple[float, float, float, float]:
    """The part of an upright image that `fit_image` keeps.

    Args:
        image_size: (H, W) of the image in pixels.
        size: (H, W) that the part is scaled to.
        crop_pct: share of each side that the centre crop keeps.

    Returns:
        (left, top, right, bottom) in pixels of the image, with fractions.
    """
    fit = _fit((image_size[1], image_size[0]), size, crop_pct)
    column = (fit.used[2] - fit.used[0]) / fit.whole[0]  # width in the image of a pixel of the part
    row = (fit.used[3] - fit.used[1]) / fit.whole[1]
    left, top = fit.used[0] + fit.left * column, fit.used[1] + fit.top * row
    return left, top, left + size[1] * column, top + size[0] * row


class _Fit(NamedTuple):
    """How an image is fitted into a size: `used` of it is scaled to `whole` (W, H), and cut out from (left, top) on."""

    used: tuple[int, int, int, int]
    whole: tuple[int, int]
    left: int
    top: int


def _fit(image_size: tuple[int, int], size: tuple[int, int], crop_pct: float) -> _Fit:
    """Plans `fit_image` for an image of (W, H) pixels."""
    height, width = size
    covered = tuple(math.floor(side / crop_pct + 1e-6) for side in (width, height))  # 224 / (224 / 232) is 231.99...
    tight = 0 if covered[0] * image_size[1] >= covered[1] * image_size[0] else 1
    used = _without_far_ends(image_size, 1 - tight, covered[1 - tight] * image_size[tight] / covered[tight])
    sides = used[2] - used[0], used[3] - used[1]
    whole = (covered[tight] * sides[0] // sides[tight], covered[tight] * sides[1] // sides[tight])
    return _Fit(used, whole, round((whole[0] - width) / 2), round((whole[1] - height) / 2))


def _without_far_ends(image_size: tuple[int, int], axis: int, used: float) -> tuple[int, int, int, int]:
    """The middle of a long strip, of which little is used: scaled up, a strip of few pixels would fill the memory."""
    length = min(image_size[axis], math.ceil(_STRIP * used))
    start = (image_size[axis] - length) // 2
    box = [0, 0, *image_size]
    box[axis], box[axis + 2] = start, start + length
    return box[0], box[1], box[2], box[3]


def upright_size(path: Path | str) -> tuple[int, int]:
    """(H, W) in pixels of an image file once it is upright, from its header alone.

    Raises:
        UnreadableImageError: if the header can't be read.
    """

    def size(image: Image.Image) -> tuple[int, int]:
        return (image.height, image.width) if _orientation(image) < 5 else image.size

    return _opened(path, size)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB, upright; see the module for what becomes of each kind.

    Raises:
        UnreadableImageError: if it can't be decoded, is too large, or its pixels have no known meaning.
    """
    try:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it has {image.width * image.height:,} pixels, more than {MAX_PIXELS:,}")
        tiles = getattr(image, "tile", None)  # how the file's pixels are stored, known until they are read; [3]: args
        raw_mode = tiles[0][3] if tiles and image.format == "PNG" else None
        image.load()
        rgb = _flattened(image, _transparent_value(image, raw_mode))
        turn = _UPRIGHT.get(_orientation(image))
        return rgb if turn is None else rgb.transpose(turn)
    except Exception as error:  # decoders raise whatever a damaged file makes them do
        raise UnreadableImageError(_reason(error)) from error


def _opened(path: Path | str, use: Callable[[Image.Image], _T]) -> _T:
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")  # opening a FIFO would wait for a writer
        with Image.open(path, formats=_FORMATS) as image:
            return use(image)
    except Exception as error:  # see `to_rgb`
        raise UnreadableImageError(
            f"{path} can't be decoded ({_reason(error)}); remove it, or have unreadable files skipped"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is not one of {', '.join(_FORMATS)}"
    return str(error) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1, upright, where there is none or it can't be read."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data says nothing about the pixels
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _transparent_value(image: Image.Image, raw_mode: Any) -> Any:
    """The value or colour that is transparent, if any, on the scale of Pillow's pixels, which that of a PNG is not."""
    value = image.info.get("transparency")
    if isinstance(value, int):
        return value * {"1": 255, "L;2": 85, "L;4": 17}.get(raw_mode, 1)
    if isinstance(value, tuple) and (raw_mode == "RGB;16B" or max(value) > 255):
        return tuple(part >> 8 for part in value)
    return value


def _flattened(image: Image.Image, transparent: Any) -> Image.Image:
    """8-bit RGB of an image, transparent parts on white."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        grey = _from_floats(image, values) if image.mode == "F" else _from_integers(image, values)
        if isinstance(transparent, int):
            grey = np.where(values == transparent, np.uint8(255), grey)
        return Image.fromarray(grey).convert("RGB")
    if transparent != image.info.get("transparency"):
        image = image.copy()
        image.info["transparency"] = transparent
    if transparent is not None or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _from_integers(image: Image.Image, values: np.ndarray) -> np.ndarray:
    if image.format == "TIFF" and image.mode == "I":
        raise ValueError("its pixels are signed or 32-bit integers, of which none is white; save it with 8 or 16 bits")
    if values.size and not 0 <= values.min() <= values.max() <= 65535:
        raise ValueError(f"its pixels are {values.min()} to {values.max()}; 16-bit ones are 0 to 65535")
    shift = 4 if _tag(image, _BITS_PER_SAMPLE, (16,)) == (12,) else 8
    return _white_up(image, (values >> shift).astype(np.uint8))


def _from_floats(image: Image.Image, values: np.ndarray) -> np.ndarray:
    if not (values.min() >= 0.0 and values.max() <= 1.0):  # NaN included
        raise ValueError(f"its pixels are floats from {values.min():g} to {values.max():g}; save it as 0 to 1")
    return _white_up(image, (values * 255.0).round().astype(np.uint8))


def _white_up(image: Image.Image, grey: np.ndarray) -> np.ndarray:
    """Inverts TIFFs in which 0 is white, which Pillow does up to 8 bits only."""
    return 255 - grey if _tag(image, _PHOTOMETRIC, 1) == 0 else grey


def _tag(image: Image.Image, tag: int, otherwise: Any) -> Any:
    tags = getattr(image, "tag_v2", {})
    return tags.get(tag, otherwise)
