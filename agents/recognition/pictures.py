"""Pictures from files, addresses, bytes, arrays and Pillow, brought to the size of the training images."""

from __future__ import annotations

import http.client
import io
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from torch import Tensor

from classifiers.data.clips.recordings import VIDEO_EXTENSIONS
from classifiers.data.decoding import UnreadableImageError, decode_image, fit_image

Picture = str | Path | bytes | BinaryIO | Image.Image | np.ndarray | Tensor | Mapping[str, Any]
"""One picture: a path; an http or https address; a file's bytes; an open binary file; a Pillow image; a uint8 array
(H, W, 3) or (H, W); a uint8 tensor (3, H, W); or a row of an undecoded image column of Hugging Face's datasets, with
`bytes` or `path`."""

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Downloads:
    """How much an address may give, and how long it may take.

    Attributes:
        max_bytes: of one file.
        timeout_s: seconds for one file, from the request to its last byte.
    """

    max_bytes: int = 20_000_000
    timeout_s: float = 20.0


def is_address(picture: object) -> bool:
    """Whether it is the text of an http or https address."""
    return isinstance(picture, str) and urlsplit(picture).scheme.lower() in ("http", "https")


def is_one(pictures: object, *, clip: bool = False) -> bool:
    """Whether an argument is one picture, not several; arrays of a clip have one dimension more."""
    if isinstance(pictures, np.ndarray | Tensor):
        return pictures.ndim <= 3 + clip
    return isinstance(pictures, str | Path | bytes | bytearray | Image.Image | Mapping) or hasattr(pictures, "read")


def picture_name(picture: object) -> str:
    """How messages and rows call a picture: its path or address, else what it is."""
    if isinstance(picture, str | Path):
        return str(picture)
    path = picture.get("path") if isinstance(picture, Mapping) else getattr(picture, "filename", None)
    return str(path) if path else f"a {type(picture).__name__}"


def read_picture(
    picture: Picture,
    size: tuple[int, int],
    crop_pct: float = 1.0,
    interpolation: str = "bilinear",
    downloads: Downloads = Downloads(),
) -> np.ndarray:
    """Reads a picture as `classifiers.data.decoding.decode_image` reads a file.

    Args:
        picture: see `Picture`.
        size: (H, W) in pixels.
        crop_pct: share of each side that the center crop keeps.
        interpolation: how it is scaled, one of `classifiers.data.decoding.INTERPOLATIONS`.
        downloads: limits for addresses.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UnreadableImageError: if it can't be fetched or decoded, or is no picture.
    """
    name = picture_name(picture)
    if isinstance(picture, Mapping):
        content = picture.get("bytes") or picture.get("path")
        if not content:
            raise UnreadableImageError(f"{name} has neither bytes nor path; pass a row of an image column")
        picture = content
    if isinstance(picture, str | Path) and not is_address(picture):
        if Path(picture).suffix.lower() in VIDEO_EXTENSIONS:
            raise UnreadableImageError(f"{picture} is a video, the networks take images; pass image files")
        return decode_image(picture, size, crop_pct, interpolation)
    if isinstance(picture, str):
        picture = fetch(picture, downloads)
    if isinstance(picture, bytes | bytearray):
        picture = io.BytesIO(picture)
    if hasattr(picture, "read"):
        return decode_image(cast(BinaryIO, picture), size, crop_pct, interpolation, name=name)
    try:
        return fit_image(_as_pillow(picture), size, crop_pct, interpolation)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{name} can't be read ({error}); pass an RGB image with 8 bits") from error


def _as_pillow(picture: Any) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, Tensor):
        picture = picture.cpu().movedim(-3, -1).numpy() if picture.ndim == 3 else picture.cpu().numpy()
    if not isinstance(picture, np.ndarray):
        raise UnreadableImageError("it is none of path, address, bytes, open file, Pillow image, array and tensor")
    is_shaped = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[-1] == 3)
    if picture.dtype != np.uint8 or not is_shaped or picture.size == 0:
        raise UnreadableImageError(
            f"it is {picture.dtype} of shape {picture.shape}, not uint8 (H, W, 3) or (H, W), for tensors (3, H, W)"
        )
    return Image.fromarray(np.ascontiguousarray(picture))


def fetch(address: str, downloads: Downloads) -> bytes:
    """The content of an http or https address.

    Raises:
        UnreadableImageError: if there is no answer in time, an error, or too much.
    """
    started, parts, received = time.monotonic(), [], 0
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "gfnet-gym"})
        with urllib.request.urlopen(request, timeout=downloads.timeout_s) as answer:
            if urlsplit(answer.url).scheme not in ("http", "https"):
                raise OSError(f"it leads to {answer.url}")
            while chunk := answer.read1(_CHUNK):
                parts.append(chunk)
                received += len(chunk)
                if received > downloads.max_bytes:
                    raise OSError(f"it is larger than {downloads.max_bytes:,} bytes")
                if time.monotonic() - started > downloads.timeout_s:
                    raise TimeoutError
            expected = answer.headers.get("Content-Length", "")
            if expected.isdecimal() and received < int(expected):
                raise OSError(f"it ended after {received:,} of {int(expected):,} bytes")
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause: object = error
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # the connection, which it holds
        elif isinstance(error, urllib.error.URLError):
            cause = error.reason
        is_late = isinstance(cause, TimeoutError)
        reason = f"it took longer than {downloads.timeout_s:g} s" if is_late else str(cause) or type(cause).__name__
        raise UnreadableImageError(
            f"{address} can't be fetched ({reason}); check the address and the limits of `Downloads`"
        ) from error
    return b"".join(parts)
