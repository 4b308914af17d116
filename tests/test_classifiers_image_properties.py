"""Images of any size, kind and type: decoded to what was asked for or one sentence; patches lie inside."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from properties import check_sentence, examples, holds
from torch.nn import functional

from agents.recognition.images import as_batch
from classifiers.data.decoding import UnreadableImageError, center_crop, decode_image, fit_image, upright_size
from classifiers.networks.geometry import RESIZE_MODES, crop_at, resize, top_left_px

MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "I;16")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
SIDES = st.one_of(st.integers(1, 6), st.integers(1, 90))


def _picture(mode: str, width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "F":
        return Image.fromarray(rng.random((height, width), dtype=np.float32))
    if mode in ("I", "I;16"):
        values = rng.integers(0, 65536, (height, width))
        return Image.fromarray(values.astype(np.int32 if mode == "I" else np.uint16))
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if mode == "LAB":  # which Pillow converts from nothing
        return Image.frombytes("LAB", (width, height), pixels.tobytes())
    image = Image.fromarray(pixels)
    return image.convert("L").convert("LA") if mode == "LA" else image.convert(mode)


@examples(25, 600)
def test_any_picture_becomes_the_size_that_was_asked_for(count: int) -> None:
    @holds(
        count,
        mode=st.sampled_from([mode for mode in MODES if mode not in ("I", "F")]),  # which have no known white
        width=SIDES,
        height=SIDES,
        size=st.tuples(SIDES, SIDES),
        crop_pct=st.floats(0.05, 1.0),
        interpolation=st.sampled_from(["bilinear", "bicubic"]),
        seed=st.integers(0, 9),
    )
    def check(
        mode: str, width: int, height: int, size: tuple[int, int], crop_pct: float, interpolation: str, seed: int
    ) -> None:
        pixels = fit_image(_picture(mode, width, height, seed), size, crop_pct, interpolation)

        assert pixels.shape == (*size, 3) and pixels.dtype == np.uint8
        left, top, right, bottom = center_crop((height, width), size, crop_pct)
        assert -1e-6 <= left < right <= width + 1e-6 and -1e-6 <= top < bottom <= height + 1e-6


@examples(25, 500)
def test_any_file_is_decoded_or_one_sentence(count: int, tmp_path: Path) -> None:
    """Whole and damaged files of every kind."""
    path = tmp_path / "picture"
    refused: list[tuple[bool, str]] = []

    @holds(
        count,
        mode=st.sampled_from(MODES),
        kind=st.sampled_from(FORMATS),
        width=SIDES,
        height=SIDES,
        cut_at=st.one_of(st.just(1.0), st.floats(0.0, 1.0)),
        flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=2),
    )
    def check(mode: str, kind: str, width: int, height: int, cut_at: float, flips: list[tuple[float, int]]) -> None:
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow 13 won't write some of them
            try:
                _picture(mode, width, height, 0).save(buffer, kind)
                Image.open(buffer).load()  # Pillow 11 writes TIFF as YCbCr, and can't read it
            except (OSError, ValueError):
                return  # no such file exists
        content = bytearray(buffer.getvalue())
        for place, change in flips:
            content[int(place * len(content))] ^= change
        path.write_bytes(content[: math.ceil(cut_at * len(content))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about damaged metadata
            try:
                pixels = decode_image(path, (9, 7))
                assert pixels.shape == (9, 7, 3) and pixels.dtype == np.uint8
                if not flips and cut_at == 1.0:
                    assert upright_size(path) == (height, width)
            except UnreadableImageError as error:
                check_sentence(error, path)
                refused.append((bool(flips or cut_at < 1.0), mode))

    assert {mode for is_damaged, mode in refused if not is_damaged} <= {"I", "F"}  # whose pixels mean nothing known


@examples(25, 500)
def test_any_array_is_a_batch_or_one_sentence(count: int) -> None:
    @holds(
        count,
        array=st.one_of(
            arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(min_dims=0, max_dims=5, max_side=4)),
            arrays.arrays(st.sampled_from([np.uint8, np.float32]), st.just((2, 4, 4, 3))),
            arrays.arrays(st.sampled_from([np.uint8, np.float32]), st.just((4, 5, 3))).map(
                lambda image: [image, image]
            ),
            st.lists(st.one_of(st.none(), st.text(max_size=2), st.integers()), max_size=2),
        ),
    )
    def check(array: Any) -> None:
        try:
            batch = as_batch(array)
        except ValueError as error:
            check_sentence(error, ";")
            return
        except TypeError:  # torch knows no such array
            return
        assert batch.ndim == 4 and batch.shape[1] == 3 and len(batch) > 0
        assert batch.dtype in (torch.uint8, torch.float32)


UNIT = st.floats(0.0, 1.0, width=32)


@examples(40, 600)
def test_a_patch_lies_inside_and_holds_those_pixels(count: int) -> None:
    @holds(
        count,
        side=st.integers(1, 12),
        more=st.tuples(SIDES, SIDES),
        places=st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=3),
    )
    def check(side: int, more: tuple[int, int], places: list[tuple[float, float]]) -> None:
        height, width = side + more[0] - 1, side + more[1] - 1
        location = torch.tensor(places)
        images = torch.arange(len(places) * 2 * height * width).view(len(places), 2, height, width)

        corners = top_left_px(location, (height, width), side)
        patches = crop_at(images, location, side)

        expected = np.floor(np.array(places, np.float32) * np.array([height - side, width - side], np.float32)).astype(
            int
        )
        assert (corners.numpy() == expected).all()
        assert (corners >= 0).all() and (corners <= torch.tensor([height - side, width - side])).all()
        for row, (top, left) in enumerate(expected.tolist()):
            reference = images.numpy()[row, :, top : top + side, left : left + side]
            assert (patches[row].numpy() == reference).all()
        first = torch.zeros(len(places), dtype=torch.int64)
        assert torch.equal(crop_at(images[:1], location, side, image_index=first)[0], patches[0])


@examples(60, 400)
def test_whatever_a_network_says_the_patch_lies_inside(count: int) -> None:
    """NaN and infinity included."""

    @holds(count, place=st.tuples(*[st.floats(width=32)] * 2), size=st.tuples(st.integers(8, 60), st.integers(8, 60)))
    def check(place: tuple[float, float], size: tuple[int, int]) -> None:
        top, left = top_left_px(torch.tensor([place]), size, 8)[0].tolist()
        assert 0 <= top <= size[0] - 8 and 0 <= left <= size[1] - 8


@examples(10, 200)
@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_resizing_is_interpolation_with_aligned_corners(mode: str, count: int) -> None:
    @holds(
        count,
        size=st.tuples(SIDES, SIDES),
        new=st.tuples(SIDES, SIDES),
        number=st.integers(1, 6),
        is_float=st.booleans(),
    )
    def check(size: tuple[int, int], new: tuple[int, int], number: int, is_float: bool) -> None:
        pixels = np.random.default_rng(number).integers(0, 256, (number, 2, *size), dtype=np.uint8)
        images = torch.from_numpy(pixels)

        found = resize(images.float() / 255 if is_float else images, new, mode)

        align = None if mode == "area" else True
        expected = functional.interpolate(images.double(), size=new, mode=mode, align_corners=align)
        assert found.shape == (number, 2, *new) and found.dtype == torch.float32
        assert torch.allclose(found.double() * (255 if is_float else 1), expected, atol=0.02)
