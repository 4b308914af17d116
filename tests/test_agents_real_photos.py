"""The configs for real photos: one step of every stage, from the pretrained weights, on tiny data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from kept_runs import EXITS, FULL, kept_row, kept_run
from PIL import Image

from agents.runs.config_files import load_config, load_run_config
from agents.runs.folder import RunFolder
from agents.runs.images import open_images
from agents.runs.photo_sizes import cropped_share
from agents.runs.stages import claimed
from classifiers.checkpoints import load_classifier
from classifiers.networks.encoders import build_encoder
from scripts.cli import main

SYNSETS = ("n01440764", "n02102040")  # tench, English springer: a part of Imagenette


def _tree(root: Path, names: tuple[str, ...]) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for index in range(2):
                pixels = rng.integers(0, 256, (240, 220, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.jpg")
    return root


def _train(config: str, tree: Path, out: Path, *changes: str) -> int:
    small = (
        *(f"data.root={tree}", "initialization.full_resolution.epochs=0", "stage1.epochs=1", "stage3.epochs=1"),
        *("stage2.num_envs=2", "stage2.env_steps=6", "stage2.evaluations=1", "stage2.compile=false"),
        *("oracle_grid=2", "fixed_place_grid=2"),
    )
    return main(["train", config, "--out", str(out), "--quiet", "--set", *small, *changes])


@pytest.mark.slow
@pytest.mark.usefixtures("blank_report")
@pytest.mark.parametrize(
    ("config", "names", "changes"),
    [
        ("imagenette", SYNSETS, ("initialization.low_resolution.epochs=1",)),
        (
            "image_folder",
            ("left", "right"),
            ("data.height=96", "data.width=128", "initialization.low_resolution.epochs=1"),
        ),
        ("road_scenes", ("20", "35"), ("data.height=240", "data.width=220")),
        ("grocery", ("apple", "pear"), ("data.height=128", "data.width=128", "initialization.low_resolution.epochs=1")),
        (
            "traffic_signs",
            ("none", "yield"),
            ("data.height=128", "data.width=160", "data.groups=null", "initialization.low_resolution.epochs=1"),
        ),
    ],
)
def test_config_runs_through_every_stage(
    config: str, names: tuple[str, ...], changes: tuple[str, ...], tmp_path: Path
) -> None:
    assert _train(config, _tree(tmp_path / "tree", names), tmp_path / "run", *changes) == 0

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {len(values) for values in metrics["accuracy"].values()} == {
        load_config(config, list(changes)).classifier.num_glimpses
    }
    stages = {json.loads(line)["stage"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()}
    assert {"stage1", "stage2", "stage3"} <= stages
    kept = kept_run(kept_row(config, tmp_path / "run"))
    for name, accuracy in metrics["accuracy"].items():
        assert kept.right[name].mean(axis=1).tolist() == pytest.approx(accuracy)
    assert kept.right[FULL].mean() == pytest.approx(metrics["full_resolution_accuracy"])
    if metrics["adaptive"]["match"] is not None:
        assert kept.right[EXITS].mean() == pytest.approx(metrics["adaptive"]["match"]["accuracy"])


@pytest.mark.parametrize(("size", "share"), [((400, 400), 0.25), ((400, 300), 0.4375), ((300, 400), 0.0)])
def test_the_share_of_a_photo_that_is_cropped_away(size: tuple[int, int], share: float) -> None:
    assert cropped_share(size, (192, 256), 1.0) == pytest.approx(share, abs=0.01)


def test_what_is_cropped_away_is_said_once(picture_tree: Path) -> None:
    said: list[str] = []
    config = load_config("image_folder", [f"data.root={picture_tree}", "data.height=96", "data.width=96"])

    open_images(config, "train", on_crop=said.append)  # photos of 96x128
    open_images(config.replace(data=config.data.replace(width=128)), "train", on_crop=said.append)

    assert "3:4" in said[0] and "25% of a photo" in said[0] and "data.height=80 data.width=112" in said[0]
    assert said[1].endswith(" 0% of a photo is cropped away on average") and len(said) == 2


@pytest.mark.parametrize(
    ("photos", "sizes"),
    [
        ([(96, 128)], (192, 256)),
        ([(128, 96)], (256, 192)),
        ([(100, 100)], (224, 224)),
        ([(60, 90), (60, 90), (90, 60)], (184, 272)),
        ([(60, 80), (80, 60)], (224, 224)),
        ([(10, 100)], (128, 384)),
    ],
)
def test_photos_decide_on_the_sizes_of_image_folder(
    photos: list[tuple[int, int]], sizes: tuple[int, int], tmp_path: Path
) -> None:
    for index, (height, width) in enumerate(photos * 2):
        folder = tmp_path / "train" / ("a" if index < len(photos) else "b")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height)).save(folder / f"{index}.png")
    (tmp_path / "train" / "a" / "cut.png").write_bytes(b"no image")
    root = f"data.root={tmp_path}"

    assert load_config("image_folder", [root]).data.image_size == sizes
    assert load_config("image_folder", [root, "data.height=96", "data.width=128"]).data.image_size == (96, 128)
    one = load_config("image_folder", [root, "data.height=128"]).data.image_size
    assert one[0] == 128 and one[0] / one[1] == pytest.approx(sizes[0] / sizes[1], rel=0.1)
    assert load_config("image_folder", ["data.root=/nowhere"]).data.image_size == (192, 256)
    elsewhere = ["data.kind=torchvision", "data.name=Imagenette", f"data.root={tmp_path}"]
    assert load_config("image_folder", elsewhere).data.image_size == (192, 256)  # and nothing is downloaded


def test_a_run_keeps_the_sizes_that_it_began_with(picture_tree: Path, tmp_path: Path) -> None:
    run, settings = tmp_path / "run", [f"data.root={picture_tree}"]
    with claimed(run, load_config("image_folder", settings, run=run)):
        pass
    for path in (picture_tree / "train").glob("*/*.jpg"):
        Image.new("RGB", (96, 128)).save(path)

    assert load_config("image_folder", settings).data.image_size == (256, 192)
    assert load_config("image_folder", settings, run=run).data.image_size == (192, 256)
    assert load_run_config(run).data.image_size == (192, 256)


@pytest.mark.slow
@pytest.mark.usefixtures("blank_report")
def test_networks_from_weights_know_nothing_of_new_classes_yet(tmp_path: Path) -> None:
    """f_L and f_G keep the pretrained layers; where the classes are others, they predict all of them alike."""
    tree = _tree(tmp_path / "tree", ("20", "35"))
    small = ("data.height=128", "data.width=128", "stage1.epochs=0", "stage3.epochs=0")
    assert _train("road_scenes", tree, tmp_path / "run", *small) == 0

    classifier, names = load_classifier(RunFolder(tmp_path / "run").classifier(1))
    pretrained = build_encoder("timm:tf_efficientnet_lite0", 1000, "package:efficientnet-lite0").state_dict()
    assert names == ("20", "35")
    for encoder in (classifier.global_encoder, classifier.local_encoder):
        assert encoder.preprocessing.mean == (0.5, 0.5, 0.5)
        for name, tensor in encoder.state_dict().items():
            if name.startswith("classifier"):
                assert not tensor.any()
            else:
                assert torch.equal(tensor, pretrained[name]), name


def test_settings_of_objects_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for setting, message in {
        "objects.imagenet_class=sign": "imagenet_class",
        "objects.encoder=lite0": "objects.encoder",
        "objects.encoder=tsm8:resnet18": "encoder=tsm8:resnet18",
        "initialization.networks_from=nothing": "networks_from='nothing'",
        "initialization.weights=null": "networks_from=weights",
        "stage1.object_share=2": "object_share=2",
    }.items():
        assert main(["train", "road_scenes", "--out", str(tmp_path), "--set", setting]) == 1
        assert message in capsys.readouterr().err.replace("\n", " ")
