"""The sizes that a folder of photos is scaled and cropped to: chosen by the shape of its photos, and what they crop."""

from __future__ import annotations

import math
from contextlib import suppress
from fractions import Fraction
from typing import Any, TypeGuard

import numpy as np

from classifiers.data.collection import DecodedCollection
from classifiers.data.decoding import center_crop
from classifiers.data.registry import COLLECTIONS, ImageFolder

AUTO = "auto"
"""What `data.height` and `data.width` may be in a config: the photos decide."""

_HEIGHT, _WIDTH = 192, 256  # their area is kept; without photos, these are the sizes
_MULTIPLE = 8
_MOST_ELONGATED = 3.0  # long side to short side; panoramas are cropped
_MUCH_CROPPED = 0.05  # of the photos; more is worth an advice


def photo_sizes(data: dict[str, Any]) -> tuple[int, int]:
    """The sizes that settings leave to the photos.

    Args:
        data: settings of images, `height`, `width` or both of them `AUTO`.

    Returns:
        (H, W) in pixels: of the median shape of the training photos and the area of 192x256, or with the side that is
        given. Of 3:4 without a tree of photos (nothing is downloaded for that), or with settings that are wrong, which
        is said when they are checked.
    """
    known = {name: data[name] for name in ("height", "width") if data.get(name, AUTO) != AUTO}
    sizes, collection = [], None
    with suppress(FileNotFoundError, ValueError):
        collection = COLLECTIONS[str(data["kind"])].model_validate(
            {**data, "height": _HEIGHT, "width": _WIDTH, **known}
        )
        sizes = collection.files("train").sizes() if isinstance(collection, ImageFolder) else []
    ratio = median_aspect(sizes) if sizes else _HEIGHT / _WIDTH
    if collection is None or not known:
        return sizes_of_shape(ratio, _HEIGHT * _WIDTH)
    height, width = collection.image_size
    return (height, _rounded(height / ratio)) if "height" in known else (_rounded(width * ratio), width)


def takes_auto(data: Any) -> TypeGuard[dict[str, Any]]:
    """Whether settings leave a size to the photos, and are of a kind that has sizes."""
    if not isinstance(data, dict) or AUTO not in (data.get("height"), data.get("width")):
        return False
    kind = COLLECTIONS.get(str(data.get("kind")))
    return kind is not None and issubclass(kind, DecodedCollection)


def median_aspect(sizes: list[tuple[int, int]]) -> float:
    """The median of height to width, of photos of (H, W) pixels; an equal number of 3:4 and 4:3 gives 1."""
    ratio = math.exp(float(np.median([math.log(height / width) for height, width in sizes])))
    return min(max(ratio, 1 / _MOST_ELONGATED), _MOST_ELONGATED)


def sizes_of_shape(ratio: float, area: int) -> tuple[int, int]:
    """(H, W) in pixels, multiples of 8, of a ratio of height to width and about an area in pixels."""
    return _rounded(math.sqrt(area * ratio)), _rounded(math.sqrt(area / ratio))


def _rounded(side: float) -> int:
    return max(1, round(side / _MULTIPLE)) * _MULTIPLE


def cropped_share(size: tuple[int, int], image_size: tuple[int, int], crop_pct: float) -> float:
    """The share of a photo's area that scaling and cropping leave out.

    Args:
        size: (H, W) of the photo in pixels.
        image_size: (H, W) to which it is scaled and cropped.
        crop_pct: see `FolderImages`.
    """
    left, top, right, bottom = center_crop(size, image_size, crop_pct)
    return 1 - (right - left) * (bottom - top) / (size[0] * size[1])


def crop_sentence(sizes: list[tuple[int, int]], image_size: tuple[int, int], crop_pct: float) -> str:
    """The shape of photos, what they become, and how much of them is lost; better sizes if that is much.

    Args:
        sizes: (H, W) of some photos in pixels.
        image_size: (H, W) to which they are scaled and cropped.
        crop_pct: see `FolderImages`.
    """
    ratio = median_aspect(sizes)
    shape, (height, width) = Fraction(ratio).limit_denominator(16), image_size
    share, better = _mean_cropped(sizes, image_size, crop_pct), sizes_of_shape(ratio, height * width)
    advice = ""
    if share > _MUCH_CROPPED and _mean_cropped(sizes, better, crop_pct) < share - 0.01:
        advice = f"; data.height={better[0]} data.width={better[1]} keeps their shape"
    if share > _MUCH_CROPPED and crop_pct < 1:
        advice += "; data.crop_pct=1 keeps their edges"
    return (
        f"photos have a median shape of {shape.numerator}:{shape.denominator}, height to width; at {height}x{width} "
        f"pixels, {share:.0%} of a photo is cropped away on average{advice}"
    )


def _mean_cropped(sizes: list[tuple[int, int]], image_size: tuple[int, int], crop_pct: float) -> float:
    return float(np.mean([cropped_share(size, image_size, crop_pct) for size in sizes]))
