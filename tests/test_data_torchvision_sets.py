"""torchvision's data sets by name: read from their official folders, split, downloaded, and refused in a sentence."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import gymnasium
import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from conftest import random_classifier
from PIL import Image

from agents.runs.config_files import load_config
from agents.runs.images import open_images
from classifiers.data.collection import ImageCollection
from classifiers.data.map_style import DatasetImages
from classifiers.data.registry import COLLECTIONS
from classifiers.data.torchvision_sets import TorchvisionImages, held_out
from classifiers.networks.spec import ClassifierSpec
from scripts.cli import main

WNIDS = ("n01440764", "n02102040", "n02979186")


def _save(path: Path, shade: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 20), (shade, 50, 50)).save(path)


def _imagenette(root: Path) -> None:
    for split, count in (("train", 10), ("val", 2)):
        for label, name in enumerate(WNIDS):
            for index in range(count):
                _save(root / "imagenette2" / split / name / f"{name}_{index}.JPEG", 80 * label)


def _gtsrb(root: Path) -> None:
    for label in range(43):
        for track in range(3):
            for frame in range(4):
                path = root / "gtsrb" / "GTSRB" / "Training" / f"{label:05d}" / f"{track:05d}_{frame:05d}.ppm"
                _save(path)
    for index in range(2):
        _save(root / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / f"{index:05d}.ppm")
    lines = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n00000.ppm;24;20;1;1;9;9;16\n"
    (root / "gtsrb" / "GT-final_test.csv").write_text(lines + "00001.ppm;24;20;1;1;9;9;1\n")


def _flowers(root: Path) -> None:
    folder = root / "flowers-102"
    for index in range(1, 7):
        _save(folder / "jpg" / f"image_{index:05d}.jpg")
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([1, 2, 102, 1, 2, 102])})
    scipy.io.savemat(folder / "setid.mat", {"trnid": [1, 2], "valid": [3, 4], "tstid": [5, 6]})


def _pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    for split, first in (("trainval", 0), ("test", 10)):
        lines = []
        for label, name in ((1, "Abyssinian"), (2, "basset_hound")):
            for index in range(first, first + 4):
                _save(folder / "images" / f"{name}_{index}.jpg")
                lines.append(f"{name}_{index} {label} 1 1\n")
        (folder / "annotations" / f"{split}.txt").write_text("".join(lines))


def _cars(root: Path) -> None:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    for split, path in (
        ("train", folder / "devkit" / "cars_train_annos.mat"),
        ("test", folder / "cars_test_annos_withlabels.mat"),
    ):
        kinds = np.dtype([("class", "i4"), ("fname", "O")])
        annotations = np.array([(1 + index % 2, f"{index:05d}.jpg") for index in range(6)], dtype=kinds)
        for name in annotations["fname"]:
            _save(folder / f"cars_{split}" / name)
        scipy.io.savemat(path, {"annotations": annotations})
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
    scipy.io.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})


COPIES: dict[str, tuple[Callable[[Path], None], tuple[int, int, int], tuple[int, str, str]]] = {
    "Imagenette": (_imagenette, (27, 3, 6), (3, WNIDS[0], WNIDS[2])),
    "GTSRB": (_gtsrb, (43 * 8, 43 * 4, 2), (43, "0", "42")),
    "Flowers102": (_flowers, (2, 2, 2), (102, "pink primrose", "blackberry lily")),
    "OxfordIIITPet": (_pets, (6, 2, 8), (2, "Abyssinian", "Basset Hound")),
    "StanfordCars": (_cars, (4, 2, 6), (2, "AM General Hummer SUV 2000", "Acura RL Sedan 2012")),
}
"""What makes a small copy; how many images of each split it has; number of classes, the first and the last."""


@pytest.fixture
def without_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flowers102's label files have official checksums, which those of a small copy can't have."""
    files = {key: (name, None) for key, (name, _) in torchvision.datasets.Flowers102._file_dict.items()}
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_file_dict", files)


@pytest.mark.usefixtures("without_checksums")
@pytest.mark.parametrize("name", COPIES)
def test_official_folders_are_read(name: str, tmp_path: Path) -> None:
    make, counts, (num_classes, first, last) = COPIES[name]
    make(tmp_path)
    images = TorchvisionImages(name=name, root=tmp_path, height=16, width=16)

    sources = [images.open(split) for split in ("train", "val", "test")]

    assert tuple(map(len, sources)) == counts
    names = images.class_names()
    assert names is not None and (len(names), names[0], names[-1]) == (num_classes, first, last)
    seen = [set(source.files) for source in sources]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    for source in sources:
        batch = source.fetch(torch.arange(len(source)))
        assert source.class_names == names and batch.images.shape == (len(source), 3, 16, 16)
        assert batch.labels.min() >= 0 and batch.labels.max() < num_classes


def test_labels_are_those_of_torchvision(tmp_path: Path) -> None:
    _imagenette(tmp_path)
    expected = torchvision.datasets.Imagenette(tmp_path, split="val")

    source = TorchvisionImages(name="Imagenette", root=tmp_path, height=20, width=24).open("test")

    batch = source.fetch(torch.arange(6))
    for index, (image, label) in enumerate(expected):
        assert batch.labels[index] == label
        assert np.array_equal(batch.images[index].permute(1, 2, 0).numpy(), np.asarray(image))


def test_tracks_of_traffic_signs_are_not_divided(tmp_path: Path) -> None:
    _gtsrb(tmp_path)
    images = TorchvisionImages(name="GTSRB", root=tmp_path, height=16, width=16)

    train, val = (
        {tuple(path.decode().rpartition("_")[0].rsplit("/", 2)[1:]) for path in images.open(split).files}
        for split in ("train", "val")
    )

    assert not train & val and len(train) == 2 * 43 and len(val) == 43


def test_what_is_set_aside_is_the_same_share_of_every_class_and_always_the_same() -> None:
    labels = torch.tensor([0] * 100 + [1] * 40 + [2])

    aside = held_out(labels, range(141), 0.1)

    assert [int(aside[labels == label].sum()) for label in range(3)] == [10, 4, 0]  # a class keeps an image
    assert torch.equal(aside, held_out(labels, range(141), 0.1)) and not aside[:10].all()


def test_runs_and_environments_take_a_set_by_its_name(tmp_path: Path) -> None:
    _imagenette(tmp_path)
    spec = TorchvisionImages(name="Imagenette", root=tmp_path, height=40, width=48, train_crop=(0.5, 1))

    kept = open_images(load_config("image_folder").replace(data=spec), "val")

    classifier = random_classifier(ClassifierSpec(encoder="small_resnet", patch_size=32, hidden_size=16), 3)
    env = gymnasium.make(
        "gfnet_env:GFNet-ImageFolder-v0", torchvision="Imagenette", root=tmp_path, classifier=classifier, image_size=40
    )
    _, info = env.reset(seed=0)
    assert kept.class_names == WNIDS and len(kept) == 3 and 0 <= info["label"] < 3
    assert spec.open_augmented(0) is not None
    assert [spec.calibration_split(split) for split in ("train", "val", "test")] == ["val", "train", "val"]


class Beans(ImageCollection):
    """Hugging Face's splits, as a user makes a kind of data of them."""

    kind: Literal["beans"] = "beans"

    @property
    def image_size(self) -> tuple[int, int]:
        return 48, 64

    def class_names(self) -> tuple[str, ...]:
        return "rust", "healthy"

    def open(self, split: str, on_progress: object = None) -> DatasetImages:
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(
            {"image": datasets.Image(), "labels": datasets.ClassLabel(names=["rust", "healthy"])}
        )
        content = {"image": [Image.new("RGB", (30, 20), (80 * i, 0, 0)) for i in range(4)], "labels": [0, 1, 0, 1]}
        return DatasetImages(datasets.Dataset.from_dict(content, features=features), self.image_size)


@pytest.mark.slow
@pytest.mark.usefixtures("without_checksums")
@pytest.mark.parametrize("name", ["GTSRB", "Flowers102", "beans"])
def test_the_same_commands_take_sets_of_torchvision_and_hugging_face(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COLLECTIONS, "beans", Beans)
    data = "{kind: beans}"
    if name != "beans":
        COPIES[name][0](tmp_path)
        data = f"{{kind: torchvision, name: {name}, root: {tmp_path}, num_train: 4, height: 48, width: 64}}"
    parts = ("initialization.full_resolution", "initialization.low_resolution", "stage1", "stage3")
    small = ["classifier.encoder=small_resnet", "classifier.patch_size=32", "classifier.feature_stride=null"]
    small += [*(f"{part}.epochs=1" for part in parts), "initialization.weights=null", "stage2.agent=random"]
    run, picture = str(tmp_path / "run"), tmp_path / "picture.png"
    _save(picture)

    trained = main(["train", "image_folder", "--quiet", "--out", run, "--set", f"data={data}", *small, "oracle_grid=0"])

    assert trained == 0 and main(["predict", run, str(picture)]) == 0
    assert main(["evaluate", run, "--quiet", "--policies", "learned"]) == 0


def _offer(monkeypatch: pytest.MonkeyPatch, url: str, md5: str) -> None:
    monkeypatch.setattr(torchvision.datasets.Imagenette, "_ARCHIVES", {"full": (url, md5)})


def test_a_set_is_downloaded_on_first_use_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _imagenette(tmp_path / "site")
    archive = tmp_path / "site" / "imagenette2.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "site" / "imagenette2", "imagenette2")
    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", lambda _, path: shutil.copy(archive, path))
    root = tmp_path / "mine" / "sets"
    images = TorchvisionImages(name="Imagenette", root=root, height=16, width=16)

    _offer(monkeypatch, archive.as_uri(), "0" * 32)
    with pytest.raises(FileNotFoundError, match="Imagenette"):
        images.open("train")
    assert not (root / "imagenette2").exists() and images.class_names() is None
    _offer(monkeypatch, archive.as_uri(), hashlib.md5(archive.read_bytes()).hexdigest())
    assert len(images.open("train")) == 27
    archive.unlink()

    assert len(images.open("test")) == 6 and images.class_names() == WNIDS
    assert sorted(path.name for path in root.iterdir()) == [".imagenette2.lock", "imagenette2"]


def test_sets_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _offer(monkeypatch, "http://127.0.0.1:9/imagenette2.tgz", "0" * 32)
    for name in ("Imagenette", "StanfordCars"):  # the latter is no longer offered
        with pytest.raises(FileNotFoundError, match=f"{name} is not in {tmp_path}.*root="):
            TorchvisionImages(name=name, root=tmp_path).open("train")
    with pytest.raises(ValueError, match="Imagenette"):
        TorchvisionImages(name="imagenette")
    _gtsrb(tmp_path)
    (tmp_path / "gtsrb" / "GT-final_test.csv").unlink()
    with pytest.raises(FileNotFoundError, match="incomplete"):
        TorchvisionImages(name="GTSRB", root=tmp_path).open("test")
