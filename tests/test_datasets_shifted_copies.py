"""Shifted copies of images, on which a policy may learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.runs.config_files import load_config
from agents.runs.new_agent import policy_env
from classifiers.data.augmentation import COPIES, ShiftedCopies
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier


def test_copies_are_the_images_shifted_by_different_numbers_of_pixels(scenes: ArrayImages) -> None:
    copies, count = ShiftedCopies(scenes, shift_px=5, seed=1), len(scenes)
    assert len(copies) == COPIES * count
    everything = copies.fetch(torch.arange(len(copies)))
    assert torch.equal(everything.images[:count], scenes.images), "the first copy is the image itself"
    assert torch.equal(everything.labels, scenes.labels.repeat(COPIES)) and not everything.boxes.any()

    inner = scenes.images[0][:, 5:-5, 5:-5]  # visible under every shift
    height, width = inner.shape[1:]
    shifts = set()
    for copy in everything.images[::count]:
        found = [
            (row, col)
            for row in range(11)
            for col in range(11)
            if torch.equal(copy[:, row : row + height, col : col + width], inner)
        ]
        assert len(found) == 1
        shifts |= set(found)
    assert len(shifts) > COPIES // 2


def test_copies_depend_on_seed_and_number_alone(scenes: ArrayImages) -> None:
    one, other = ShiftedCopies(scenes, 5, seed=1), ShiftedCopies(scenes, 5, seed=2)
    indices = torch.tensor([len(scenes) + 3, 7 * len(scenes)])
    assert torch.equal(one.fetch(indices).images, one.fetch(torch.arange(len(one))).images[indices])
    assert torch.equal(ShiftedCopies(scenes, 5, seed=1).fetch(indices).images, one.for_epoch(4).fetch(indices).images)
    assert not torch.equal(one.fetch(indices).images, other.fetch(indices).images)


def test_clips_are_shifted_as_a_whole() -> None:
    clips = torch.randint(0, 256, (1, 2, 3, 16, 16), dtype=torch.uint8)
    source = ArrayImages(clips, torch.zeros(1, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64), ("a", "b"))
    copies = ShiftedCopies(source, 3)
    images = ShiftedCopies(ArrayImages(clips[:, 1], source.labels, source.boxes, ("a", "b")), 3)
    for index in range(COPIES):
        both = torch.tensor([index])
        assert torch.equal(copies.fetch(both).images[0, 1], images.fetch(both).images[0])


def test_files_are_announced_by_their_own_numbers(scenes: ArrayImages) -> None:
    class Announced(ArrayImages):
        def prefetch(self, indices: np.ndarray) -> None:
            expected.extend(indices.tolist())

    expected: list[int] = []
    source = Announced(scenes.images, scenes.labels, scenes.boxes, scenes.class_names)
    ShiftedCopies(source, 5).prefetch(np.array([2, len(scenes) + 3]))
    assert expected == [2, 3]


def test_stage_two_learns_on_copies_if_asked(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    spec = load_config("demo", ["stage2.shift_px=8"]).stage2
    assert isinstance(policy_env(classifier, scenes, spec).task.source, ShiftedCopies)
    assert policy_env(classifier, scenes, load_config("demo").stage2).task.source is scenes


def test_shifts_as_large_as_an_image_are_an_error(scenes: ArrayImages) -> None:
    with pytest.raises(ValueError, match="shift_px=96 exceeds the"):
        ShiftedCopies(scenes, 96)
