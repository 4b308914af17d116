"""Random crops of files, and shifted copies, on which a policy may learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agents.runs.config_files import load_config
from agents.runs.run import policy_env
from classifiers.data.augmentation import COPIES, RandomCrops, ShiftedCopies, _random_box
from classifiers.data.folder import FolderImages
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder")
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / label).mkdir()
        for index in range(3):
            Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(root / label / f"{index}.png")
    return root


def test_crops_change_from_epoch_to_epoch_and_come_back(root: Path) -> None:
    crops = RandomCrops(FolderImages.open(root, (32, 40)), (0.2, 1.0), seed=3)
    everything = torch.arange(6)
    state = torch.random.get_rng_state()

    first = crops.fetch(everything)

    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.images.shape == (6, 3, 32, 40) and first.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert not torch.equal(crops.for_epoch(1).fetch(everything).images, first.images)
    assert torch.equal(crops.for_epoch(1).for_epoch(0).fetch(everything).images, first.images)
    one_by_one = torch.cat([crops.fetch(torch.tensor([index])).images for index in range(6)])
    assert torch.equal(one_by_one, first.images)


def test_crops_are_scaled_as_asked(root: Path) -> None:
    soft, sharp = (
        RandomCrops(FolderImages.open(root, (20, 20), interpolation=name), (1.0, 1.0)).decode(0)
        for name in ("bilinear", "bicubic")
    )

    contrast = [float(np.abs(np.diff(crop.astype(float), axis=0)).mean()) for crop in (soft, sharp)]
    assert contrast[1] > 1.1 * contrast[0]


def test_crops_keep_their_share_and_ratio_and_lie_inside() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([_random_box(200, 300, (0.25, 0.5), rng) for _ in range(500)])
    top, left, height, width = boxes.T

    shares, ratios = height * width / (200 * 300), width / height
    assert (boxes >= 0).all() and (top + height <= 200).all() and (left + width <= 300).all()
    assert 0.24 < shares.min() < 0.26 and 0.49 < shares.max() < 0.51
    assert 0.74 < ratios.min() < 0.80 and 1.27 < ratios.max() < 1.35
    assert _random_box(10, 1000, (1.0, 1.0), rng) == (0, 493, 10, 13)  # none fits: the center


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

    assert torch.equal(ShiftedCopies(scenes, 5, seed=1).fetch(indices).images, one.for_epoch(4).fetch(indices).images)
    assert torch.equal(one.fetch(indices.flip(0)).images, one.fetch(indices).images.flip(0))
    assert not torch.equal(one.fetch(indices).images, other.fetch(indices).images)


def test_clips_are_shifted_as_a_whole() -> None:
    clips = torch.randint(0, 256, (1, 2, 3, 16, 16), dtype=torch.uint8)
    source = ArrayImages(clips, torch.zeros(1, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64), ("a", "b"))
    copies = ShiftedCopies(source, 3)
    images = ShiftedCopies(ArrayImages(clips[:, 1], source.labels, source.boxes, ("a", "b")), 3)

    everything = torch.arange(COPIES)
    assert torch.equal(copies.fetch(everything).images[:, 1], images.fetch(everything).images)


def test_files_are_announced_by_their_own_numbers(scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch) -> None:
    announced: list[int] = []
    monkeypatch.setattr(scenes, "prefetch", lambda indices: announced.extend(indices.tolist()))

    ShiftedCopies(scenes, 5).prefetch(np.array([2, len(scenes) + 3]))

    assert announced == [2, 3]
    with pytest.raises(ValueError, match="shift_px=96"):
        ShiftedCopies(scenes, 96)


def test_stage_two_learns_on_copies_if_asked(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    spec = load_config("demo", ["stage2.shift_px=8"]).stage2
    assert isinstance(policy_env(classifier, scenes, spec).task.source, ShiftedCopies)
    assert policy_env(classifier, scenes, load_config("demo").stage2).task.source is scenes
