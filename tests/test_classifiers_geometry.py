from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from classifiers.networks.geometry import RESIZE_MODES, crop_at, crop_between_pixels, resize
from classifiers.training.augmentation import augment


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_resize_of_pixels_is_that_of_floats_whatever_their_layout(mode: str) -> None:
    images = torch.randint(0, 256, (5, 30, 41, 3), dtype=torch.uint8).movedim(-1, 1)

    small = resize(images, (12, 9), mode)

    align_corners = None if mode == "area" else True
    expected = functional.interpolate(images.float(), (12, 9), mode=mode, align_corners=align_corners)
    assert torch.allclose(small, expected, atol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resize(images, (12, 9), mode), small)


def test_augment_shifts_and_flips_each_image_on_its_own() -> None:
    images = torch.randint(0, 256, (16, 3, 12, 20), dtype=torch.uint8)

    changed = augment(images, torch.Generator().manual_seed(0), shift_px=3, flip=True).images

    assert changed.shape == images.shape and changed.dtype == torch.uint8
    assert not torch.equal(changed, images)
    assert torch.equal(changed, augment(images, torch.Generator().manual_seed(0), shift_px=3, flip=True).images)
    assert torch.equal(images, augment(images, torch.Generator().manual_seed(0)).images)


def test_augment_flip_mirrors_about_half() -> None:
    images = torch.randint(0, 256, (200, 3, 4, 6), dtype=torch.uint8)

    changed = augment(images, torch.Generator().manual_seed(0), flip=True).images

    mirrored = (changed == images.flip(3)).flatten(1).all(1)
    same = (changed == images).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert 60 < mirrored.sum() < 140


@pytest.mark.parametrize("frames", [None, 2])
def test_augment_says_where_places_went(frames: int | None) -> None:
    places = torch.randint(24, 40, (32, 2), generator=torch.Generator().manual_seed(0))
    images = torch.zeros(32, 3, 64, 72, dtype=torch.uint8)
    for image, (row, col) in zip(images, places.tolist(), strict=True):
        image[:, row - 2 : row + 3, col - 2 : col + 3] = 255
    images = images if frames is None else images.unsqueeze(1).repeat(1, frames, 1, 1, 1)

    changed, moves = augment(
        images, torch.Generator().manual_seed(0), shift_px=6, flip=True, zoom=1.4, rotation=30, color_jitter=0.2
    )

    assert changed.shape == images.shape and changed.dtype == torch.uint8
    weights = changed.flatten(1, -3).double().mean(1)  # (B, H, W): bright where the square is now
    rows, cols = torch.arange(64) + 0.5, torch.arange(72) + 0.5  # centers of pixels
    total = weights.sum((1, 2))
    found = torch.stack([(weights.sum(2) * rows).sum(1) / total, (weights.sum(1) * cols).sum(1) / total], 1)
    expected = torch.einsum("bij,bj->bi", moves, torch.cat([places + 0.5, torch.ones(32, 1)], 1))
    assert (found - expected).abs().max() < 0.2
    areas = total / (255 * 25)  # brightness changes too
    assert areas.min() < 0.8 and areas.max() > 1.2, "nothing was zoomed"


def test_augment_changes_colors_alone() -> None:
    images = torch.randint(60, 180, (20, 3, 12, 20), dtype=torch.uint8)
    changed, moves = augment(images, torch.Generator().manual_seed(0), color_jitter=0.4)

    assert torch.equal(moves, torch.eye(2, 3).repeat(20, 1, 1))
    assert not torch.equal(changed, images)
    brightness = changed.float().mean((1, 2, 3)) / images.float().mean((1, 2, 3))
    assert 0.55 < brightness.min() < 0.9 and 1.1 < brightness.max() < 1.45


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_a_crop_between_pixels_is_the_crop_at_whole_pixels_and_a_mean_between_them(shape: tuple[int, ...]) -> None:
    images = torch.randint(0, 256, (9, *shape, 12, 20), dtype=torch.uint8)
    corners = torch.tensor([[row, column] for row in (0, 3, 7) for column in (0, 4, 15)])
    room = torch.tensor([12 - 5, 20 - 5])
    location = corners / room

    whole = crop_between_pixels(images, location, 5)
    between = crop_between_pixels(images, (corners.clamp(max=room - 1) + 0.5) / room, 5)

    expected = crop_at(images, (corners + 0.1) / room, 5).float()
    assert whole.shape == expected.shape and torch.allclose(whole, expected, atol=0.01)
    start = corners.clamp(max=room - 1)
    four = [crop_at(images, (start + 0.1 + torch.tensor(step)) / room, 5) for step in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert torch.allclose(between, torch.stack(four).float().mean(0), atol=0.01)
