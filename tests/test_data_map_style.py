"""Data sets of torch, torchvision and Hugging Face's `datasets`, as sources of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import torchvision
from conftest import random_classifier
from PIL import Image
from torch.utils.data import Subset, random_split

from classifiers.data.folder import FolderImages
from classifiers.data.map_style import DatasetImages
from classifiers.networks.spec import ClassifierSpec

datasets = pytest.importorskip("datasets")

RED = Image.new("RGB", (20, 20), (200, 30, 40))
FIRST = torch.tensor([0])


class _Pictures(torch.utils.data.Dataset[Any]):
    def __init__(self, images: list[Any], labels: list[int], **attributes: Any) -> None:
        self.images, self.labels = images, labels
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.images[index], self.labels[index]


@pytest.mark.parametrize(
    "image",
    [
        RED,
        torch.tensor([200, 30, 40], dtype=torch.uint8).view(3, 1, 1).expand(3, 20, 20),
        torch.tensor([200, 30, 40]).view(3, 1, 1).expand(3, 20, 20) / 255.0,
    ],
)
def test_data_sets_of_pil_images_bytes_or_floats(image: Any) -> None:
    source = DatasetImages(_Pictures([image] * 3, [0, 1, 1]), (8, 8))

    batch = source.fetch(torch.arange(3))

    assert batch.images[0, :, 4, 4].tolist() == [200, 30, 40]
    assert source.class_names == ("0", "1") and batch.labels.tolist() == [0, 1, 1]


def test_torchvisions_own_image_folder_fits(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        RED.save(tmp_path / name / "1.png")
    theirs = DatasetImages(torchvision.datasets.ImageFolder(str(tmp_path)), (8, 8))
    ours = FolderImages.open(tmp_path, (8, 8))

    assert theirs.class_names == ours.class_names
    assert torch.equal(theirs.fetch(torch.arange(2)).images, ours.fetch(torch.arange(2)).images)


def test_a_subset_has_the_classes_of_the_whole() -> None:
    whole = _Pictures([RED] * 6, [0, 1, 2, 0, 1, 2], classes=("a", "b", "c"))
    part = Subset(random_split(whole, [4, 2], torch.Generator().manual_seed(0))[0], [0])

    assert DatasetImages(part, (8, 8)).class_names == ("a", "b", "c")


def test_data_sets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        DatasetImages(_Pictures([], []), (8, 8))
    with pytest.raises(ValueError, match=r"\(20, 20\)"):
        DatasetImages(_Pictures([torch.zeros(20, 20)], [1]), (8, 8)).fetch(FIRST)
    with pytest.raises(ValueError, match="not normalized"):
        DatasetImages(_Pictures([torch.randn(3, 20, 20)], [1]), (8, 8)).fetch(FIRST)
    with pytest.raises(ValueError, match="uint8"):
        DatasetImages(_Pictures([torch.full((3, 9, 9), 300)], [0]), (8, 8)).fetch(FIRST)
    with pytest.raises(ValueError, match="label 2"):
        DatasetImages(_Pictures([RED], [2], classes=("a", "b")), (8, 8)).fetch(FIRST)
    with pytest.raises(ValueError, match="-1"):
        DatasetImages(_Pictures([RED], [-1], targets=[-1]), (8, 8))


def _set(label: Any = None, labels: tuple[int, ...] = (0, 1, 1, 0), **columns: Any) -> Any:
    """A set of Hugging Face's, in memory."""
    pictures = [Image.new("RGB", (40, 40), (60 * index, 0, 0)) for index in range(4)]
    features = {"picture": datasets.Image(), "kind": label or datasets.ClassLabel(names=["cat", "dog"])}
    content = {"picture": pictures, "kind": labels, **{name: values for name, (values, _) in columns.items()}}
    features |= {name: feature for name, (_, feature) in columns.items()}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def test_columns_are_found_by_their_types() -> None:
    source = DatasetImages(_set(number=([1, 2, 3, 4], datasets.Value("int64"))), (40, 40), is_deterministic=True)

    batch = source.fetch(torch.arange(4))

    assert source.class_names == ("cat", "dog") and batch.labels.tolist() == [0, 1, 1, 0]
    assert np.array_equal(batch.images[:, 0, 5, 5], [0, 60, 120, 180])


def test_environments_take_them_as_they_are() -> None:
    classifier = random_classifier(ClassifierSpec(encoder="small_resnet", patch_size=32, hidden_size=16), 2)

    env = gymnasium.make("GFNet-ImageFolder-v0", dataset=_set(), image_size=40, classifier=classifier)

    assert env.reset(seed=0, options={"index": 1})[1]["label"] == 1


def test_sets_without_the_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="0 columns of type ClassLabel"):
        DatasetImages(_set(datasets.Value("int64")), (40, 40))
    with pytest.raises(ValueError, match="2 columns of type ClassLabel"):
        DatasetImages(_set(other=([0] * 4, datasets.ClassLabel(names=["a"]))), (40, 40))
    with pytest.raises(ValueError, match=r"DATASET\['train'\]"):
        DatasetImages(datasets.DatasetDict({"train": _set(), "test": _set()}), (40, 40))
    with pytest.raises(ValueError, match="stream"):
        DatasetImages(_set().to_iterable_dataset(), (40, 40))
    with pytest.raises(ValueError, match="-1"):
        DatasetImages(_set(labels=(-1,) * 4), (40, 40)).fetch(FIRST)
    transformed = _set().with_transform(lambda rows: {"pixels": [0] * len(rows["kind"]), "kind": rows["kind"]})
    with pytest.raises(ValueError, match="'picture'"):
        DatasetImages(transformed, (40, 40)).fetch(FIRST)
