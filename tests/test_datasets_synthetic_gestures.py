"""Drawn clips whose class only order in time tells, and only at full resolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from classifiers.data.synthetic_gestures import CLASS_NAMES, SPLITS, GestureClips, GestureSpec, draw_gesture
from classifiers.networks.geometry import resize

QUIET = GestureSpec(noise=0.0, min_contrast=28.0)


def test_a_clip_depends_on_spec_split_and_index_alone() -> None:
    first = draw_gesture(GestureSpec(), "train", 5)
    draw_gesture(GestureSpec(), "train", 6)
    again = draw_gesture(GestureSpec(), "train", 5)

    assert first.frames.shape == (8, 96, 96, 3) and first.frames.dtype == np.uint8
    assert np.array_equal(first.frames, again.frames) and first.label == again.label
    for other in (
        draw_gesture(GestureSpec(), "train", 6),
        draw_gesture(GestureSpec(), "val", 5),
        draw_gesture(GestureSpec(seed=1), "train", 5),
    ):
        assert not np.array_equal(first.frames, other.frames)


def test_every_class_is_drawn_about_as_often() -> None:
    small = GestureSpec(height=66, width=66, min_diameter_px=8, max_diameter_px=10, max_distractors=0)

    counts = np.bincount([draw_gesture(small, "train", index).label for index in range(160)], minlength=8)

    assert len(counts) == len(CLASS_NAMES) == 8 and counts.min() > 8


def test_classes_differ_in_order_and_nothing_else() -> None:
    clips = [draw_gesture(QUIET, "train", 3, label) for label in range(8)]
    top, left, bottom, right = clips[0].boxes[0]
    stripes = [clip.frames[:, top + 6 : bottom - 6, left + 6 : right - 6].astype(int) for clip in clips]

    orders = []
    for clip, pattern in zip(clips, stripes, strict=True):
        assert np.array_equal(clip.frames[0], clips[0].frames[0]) and np.array_equal(clip.boxes, clips[0].boxes)
        difference = np.abs(pattern[:, None] - stripes[0][None]).max(axis=(2, 3, 4))  # (8, 8): by frames
        orders.append(tuple(difference.argmin(axis=1).tolist()))
        assert difference.min(axis=1).max() <= 1
    assert all(sorted(order) == list(range(8)) for order in orders)  # every frame of the first clip, once
    assert len(set(orders)) == 8


def test_a_glance_shows_the_disc_and_not_its_direction() -> None:
    clips = [torch.from_numpy(draw_gesture(QUIET, "val", 9, label).frames).permute(0, 3, 1, 2) for label in (0, 3)]
    top, left, bottom, right = draw_gesture(QUIET, "val", 9).boxes[0] // 4
    glances = [resize(clip, (24, 24), "area") for clip in clips]

    inside = (..., slice(top + 2, bottom - 1), slice(left + 2, right - 1))
    difference = (clips[0].float() - clips[1].float()).abs().max()
    assert difference > 50 and (glances[0][inside] - glances[1][inside]).abs().max() < 2
    middle = glances[0][0, :, (top + bottom) // 2, (left + right) // 2]
    assert middle[0] > middle[1] + 80  # red


def test_boxes_follow_the_red_disc() -> None:
    for index in range(20):
        clip = draw_gesture(QUIET, "test", index)
        for frame, (top, left, bottom, right) in zip(clip.frames.astype(int), clip.boxes, strict=True):
            assert 0 <= top < bottom <= 96 and 0 <= left < right <= 96
            mean = frame[top:bottom, left:right].mean(axis=(0, 1))
            assert mean[0] > mean[1] + 30 and mean[0] > mean[2] + 30
    assert any(len(np.unique(draw_gesture(QUIET, "test", index).boxes, axis=0)) > 2 for index in range(5))


def test_the_source_draws_what_is_fetched() -> None:
    source = GestureClips(GestureSpec(), "val", 30)

    batch = source.fetch(torch.tensor([4, 2]))

    drawn = [source.draw(index) for index in (4, 2)]
    assert len(source) == 30 and source.num_frames == 8 and source.image_size == (96, 96)
    assert batch.images.shape == (2, 8, 3, 96, 96) and batch.labels.tolist() == [one.label for one in drawn]
    assert torch.equal(batch.images[1], torch.from_numpy(drawn[1].frames).permute(0, 3, 1, 2))
    for box, one in zip(batch.boxes[:, 0], drawn, strict=True):
        assert box[:2].tolist() == one.boxes[:, :2].min(axis=0).tolist()
        assert box[2:].tolist() == one.boxes[:, 2:].max(axis=0).tolist()


def test_settings_out_of_range_are_one_sentence() -> None:
    for name, value in {
        "min_diameter_px": 30,
        "max_distractors": 6,
        "min_contrast": 30.0,
        "seed": -1,
        "height": 64,
    }.items():
        with pytest.raises(ValueError, match=name):
            GestureSpec(**{name: value})
    with pytest.raises(ValueError, match="split"):
        draw_gesture(GestureSpec(), "dev", 0)
    with pytest.raises(ValueError, match="count"):
        GestureClips(GestureSpec(), SPLITS[0], 0)
