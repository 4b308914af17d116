"""Loading ahead and random crops."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from classifiers.data.augmentation import RandomCrops, _random_box
from classifiers.data.decoding import UnreadableImageError
from classifiers.data.folder import FolderImages
from classifiers.data.loading import EpochLoader, Prefetcher
from classifiers.data.source import Batch, ImageSource, batch_without_boxes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> FolderImages:
    root = tmp_path_factory.mktemp("folder")
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / label).mkdir()
        for index in range(3):
            Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(root / label / f"{index}.png")
    return FolderImages.open(root, (32, 40))


PLAN = [torch.tensor([5, 0]), torch.tensor([2]), torch.tensor([1, 3, 4])]


@pytest.mark.parametrize("crops", [False, True])
def test_workers_bring_what_the_process_itself_would(folder: FolderImages, crops: bool) -> None:
    source = RandomCrops(folder, (0.2, 1.0), seed=3) if crops else folder

    alone, ahead = (EpochLoader(source, workers, torch.device("cpu")) for workers in (0, 2))

    for epoch, plan in ((0, PLAN), (1, PLAN[::-1]), (2, PLAN[:1])):
        expected, found = list(alone.batches(epoch, plan)), list(ahead.batches(epoch, plan))
        assert [len(batch.images) for batch in found] == [len(indices) for indices in plan]
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


class _Processes(ImageSource):
    """Says in its labels which process fetched."""

    class_names, image_size = ("cat", "dog"), (8, 8)

    def __len__(self) -> int:
        return 6

    def fetch(self, indices: torch.Tensor) -> Batch:
        return batch_without_boxes(np.zeros((1, 8, 8, 3), np.uint8), torch.tensor([os.getpid()]))


def test_workers_live_for_all_epochs_even_if_one_is_left_early() -> None:
    loader = EpochLoader(_Processes(), 2, torch.device("cpu"))

    first = {int(batch.labels) for batch in loader.batches(0, PLAN * 4)}
    next(iter(loader.batches(1, PLAN * 4)))
    last = [int(batch.labels) for batch in loader.batches(2, PLAN * 4)]

    assert len(last) == 12 and set(last) <= first and os.getpid() not in first


def test_crops_change_from_epoch_to_epoch_and_come_back(folder: FolderImages) -> None:
    crops = RandomCrops(folder, (0.2, 1.0), seed=3)
    everything = torch.arange(6)
    state = torch.random.get_rng_state()

    first = crops.fetch(everything)

    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.images.shape == (6, 3, 32, 40) and first.images.dtype == torch.uint8
    assert first.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert not torch.equal(crops.for_epoch(1).fetch(everything).images, first.images)
    assert torch.equal(crops.for_epoch(1).for_epoch(0).fetch(everything).images, first.images)
    one_by_one = torch.cat([crops.fetch(torch.tensor([index])).images for index in range(6)])
    assert torch.equal(one_by_one, first.images)
    assert (crops.class_names, crops.image_size, len(crops)) == (("cat", "dog"), (32, 40), 6)


def test_unreadable_file_is_named(folder: FolderImages, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "broken.png").write_bytes(b"no picture")

    with pytest.raises(UnreadableImageError, match=r"broken\.png can't be decoded"):
        RandomCrops(FolderImages.open(tmp_path, (32, 32)), (0.5, 1.0)).fetch(torch.tensor([0]))


def test_threads_crop_ahead_what_a_fetch_would(folder: FolderImages) -> None:
    crops = RandomCrops(folder, (0.2, 1.0), seed=3)
    expected = crops.fetch(torch.arange(6))

    ahead = Prefetcher(crops, num_threads=3)
    ahead.prefetch(np.array([0, 2, 4]))

    assert torch.equal(ahead.fetch(torch.arange(6)).images, expected.images)
    assert ahead.class_names == folder.class_names and len(ahead) == 6


def test_crops_keep_their_share_and_ratio_and_lie_inside() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([_random_box(200, 300, (0.25, 0.5), rng) for _ in range(500)])
    top, left, height, width = boxes.T

    shares, ratios = height * width / (200 * 300), width / height
    assert (boxes >= 0).all() and (top + height <= 200).all() and (left + width <= 300).all()
    assert 0.24 < shares.min() < 0.26 and 0.49 < shares.max() < 0.51
    assert 0.74 < ratios.min() < 0.80 and 1.27 < ratios.max() < 1.35
    assert _random_box(10, 1000, (1.0, 1.0), rng) == (0, 493, 10, 13)  # none fits: the centre
