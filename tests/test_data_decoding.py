"""What becomes of the pixels of every kind of image file, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from agents.recognition.images import as_batch
from classifiers.data.decoding import UnreadableImageError, decode_image, decode_whole, to_rgb
from classifiers.data.map_style import DatasetImages

ORIENTATION = 0x0112
QUARTERS = np.zeros((24, 40, 3), np.uint8)  # four colors, so that each of the eight orientations looks different
QUARTERS[:12, :20], QUARTERS[:12, 20:], QUARTERS[12:, :20] = (250, 20, 20), (20, 250, 20), (20, 20, 250)


def _save(path: Path, pixels: np.ndarray, orientation: int = 1, **options: Any) -> Path:
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif, **options)
    return path


def _upright(orientation: int) -> np.ndarray:
    """Written out, not taken from the code: what a camera that noted this orientation meant."""
    turned = {
        1: QUARTERS,
        2: QUARTERS[:, ::-1],
        3: QUARTERS[::-1, ::-1],
        4: QUARTERS[::-1],
        5: QUARTERS.swapaxes(0, 1),
        6: np.rot90(QUARTERS, -1),
        7: np.rot90(QUARTERS.swapaxes(0, 1), 2),
        8: np.rot90(QUARTERS, 1),
    }
    return turned[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg"])
def test_images_come_out_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
    path = _save(tmp_path / f"a.{suffix}", QUARTERS, orientation, **options)
    expected = _upright(orientation)

    with Image.open(path) as image:
        from_pil = np.array(to_rgb(image))
    whole = np.asarray(decode_whole(path))

    assert whole.shape == expected.shape
    assert np.abs(whole.astype(int) - expected).max() <= (16 if suffix == "jpg" else 0)
    assert np.array_equal(from_pil, whole)
    assert np.array_equal(decode_image(path, expected.shape[:2]), whole)


@pytest.mark.parametrize("orientation", [1, 6])
def test_draft_of_a_turned_jpeg_keeps_enough_detail(orientation: int, tmp_path: Path) -> None:
    pixels = np.asarray(Image.fromarray(QUARTERS).resize((1600, 400), Image.Resampling.BICUBIC))
    path = _save(tmp_path / "a.jpg", pixels, orientation, quality=95)
    size = (100, 400) if orientation == 1 else (400, 100)

    drafted = decode_image(path, size)

    exact = np.asarray(ImageOps.fit(decode_whole(path), size[::-1], Image.Resampling.BILINEAR))
    assert drafted.shape == (*size, 3) and np.abs(drafted.astype(int) - exact).mean() < 2


def test_pictures_in_memory_are_turned_and_refused_as_files_are(tmp_path: Path) -> None:
    upright = torch.from_numpy(np.ascontiguousarray(_upright(6))).permute(2, 0, 1)
    size = (upright.shape[1], upright.shape[2])
    with Image.open(_save(tmp_path / "a.png", QUARTERS, 6)) as image:
        data_set = DatasetImages([(image, 0)], size).fetch(torch.tensor([0]))
        batch = as_batch([image])

    assert torch.equal(data_set.images[0], upright) and torch.equal(batch[0], upright)
    floats = Image.fromarray(np.zeros((9, 9), np.float32))
    with pytest.raises(UnreadableImageError, match="mode F"):
        as_batch([Image.new("RGB", (9, 9)), floats])
    with pytest.raises(UnreadableImageError, match="image 0"):
        DatasetImages([(floats, 0)], (8, 8)).fetch(torch.tensor([0]))


def test_damaged_exif_is_no_reason_to_refuse_the_pixels(tmp_path: Path) -> None:
    Image.fromarray(QUARTERS).save(tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff garbage")

    assert np.array_equal(np.asarray(decode_whole(tmp_path / "a.png")), QUARTERS)


def test_sixteen_bits_keep_their_high_byte(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 30000, 65535]], np.uint16)
    expected = np.repeat(np.array([[[0], [0], [1], [117], [255]]], np.uint8), 3, axis=2)

    for suffix in ("png", "tiff"):
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    (tmp_path / "a.pgm").write_bytes(b"P5 5 1 65535\n" + values.astype(">u2").tobytes())  # older Pillow only reads it
    for suffix in ("png", "tiff", "pgm"):
        assert np.array_equal(np.asarray(decode_whole(tmp_path / f"a.{suffix}")), expected), suffix


@pytest.mark.parametrize(
    ("mode", "color", "suffix", "expected"),
    [
        ("LA", (90, 0), "png", (255, 255, 255)),
        ("RGBA", (200, 30, 40, 0), "png", (255, 255, 255)),
        ("CMYK", (0, 0, 0, 0), "jpg", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "tiff", (255, 0, 0)),
        ("RGB", (200, 30, 40), "jfif", (200, 30, 40)),
        ("RGB", (200, 30, 40), "avif", (200, 30, 40)),
    ],
)
def test_color_modes_become_rgb(
    mode: str, color: Any, suffix: str, expected: tuple[int, int, int], tmp_path: Path
) -> None:
    Image.new(mode, (20, 20), color).save(tmp_path / f"a.{suffix}")

    pixels = decode_image(tmp_path / f"a.{suffix}", (8, 8))

    assert pixels[4, 4].tolist() == pytest.approx(expected, abs=2)


def test_palette_transparency_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 30, 40, 10, 20, 30])
    image.putdata([0, 1])
    for name, transparency in (("index.png", 0), ("bytes.png", b"\x00\xff"), ("index.gif", 0)):
        image.save(tmp_path / name, transparency=transparency)
        assert np.asarray(decode_whole(tmp_path / name))[0].tolist() == [[255, 255, 255], [10, 20, 30]], name


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 9), color) for color in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])

    assert np.asarray(decode_whole(tmp_path / "a.gif"))[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("pixels", [np.zeros((9, 9), np.float32), np.zeros((9, 9), np.int32)])
def test_pixels_without_a_known_white_are_refused(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tiff")

    with pytest.raises(UnreadableImageError, match=r"a\.tiff"):
        decode_whole(tmp_path / "a.tiff")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "avif", "ppm", "tiff", "gif"])
def test_truncated_files_are_refused(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()

    for length in (0, 1, 20, len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableImageError, match=rf"a\.{suffix}"):
            decode_whole(path)


def test_formats_that_start_programs_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")

    with pytest.raises(UnreadableImageError, match=r"a\.jpg"):
        decode_whole(tmp_path / "a.jpg")
