"""Loading ahead and random crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from classifiers.datasets.image_folder import FolderImages, UnreadableImageError
from classifiers.datasets.loading import RandomCrops, fetch_ahead


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

    alone = list(fetch_ahead(source, PLAN, 0, torch.device("cpu")))
    ahead = list(fetch_ahead(source, PLAN, 2, torch.device("cpu")))

    assert [len(batch.images) for batch in ahead] == [2, 1, 3]
    for one, other in zip(alone, ahead, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


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
