"""Runs that start from pretrained weights: a file or a package, tried out before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import random_classifier

from agents.runs.config_files import ConfigError, dump_config, load_config, load_run_config
from agents.runs.folder import RunFolder
from classifiers.checkpoints import load_classifier, load_full_resolution, save_classifier
from classifiers.networks.encoders import build_encoder
from classifiers.networks.spec import ClassifierSpec
from scripts.cli import main

UNTRAINED = [
    *("data.height=96", "data.width=96", "classifier.head=average", "classifier.hidden_size=1024"),
    *("initialization.low_resolution_sides=[]", "initialization.full_resolution.epochs=0"),
    *("initialization.low_resolution.epochs=0", "stage1.epochs=0", "stage3.epochs=0"),
    *("stage2.agent=random", "oracle_grid=0"),
]


def _train(root: Path, out: Path, *changes: str) -> int:
    settings = (f"data.root={root}", *UNTRAINED, *changes)
    return main(["train", "image_folder", "--out", str(out), "--quiet", "--set", *settings])


@pytest.mark.slow
@pytest.mark.usefixtures("blank_report")
def test_a_run_of_wordnet_ids_needs_no_training_of_its_networks(wordnet_tree: Path, tmp_path: Path) -> None:
    name, weights = "timm:tf_efficientnet_lite0", "package:efficientnet-lite0"

    assert _train(wordnet_tree, tmp_path / "run") == 0

    pretrained = build_encoder(name, 1000, weights)
    classifier, names = load_classifier(tmp_path / "run" / "stage1" / "classifier.safetensors")
    network = load_full_resolution(tmp_path / "run" / "initialization" / "full_resolution.safetensors")
    assert names == ("n02102040", "n03028079")
    for encoder in (classifier.global_encoder, classifier.local_encoder, network.encoder):
        assert torch.equal(encoder.classifier.weight, pretrained.classifier.weight[[217, 497]])
        assert encoder.preprocessing == pretrained.preprocessing
    assert load_run_config(tmp_path / "run").initialization.weights == weights  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], (1.0, "bicubic")),
        (["data.crop_pct=weights"], (0.875, "bicubic")),
        (["data.crop_pct=0.9", "data.interpolation=bilinear"], (0.9, "bilinear")),
        (["initialization.weights=null"], (1.0, "bilinear")),
    ],
)
def test_files_are_scaled_as_pretrained_weights_need_it(
    changes: list[str], expected: tuple[float, str], picture_tree: Path, tmp_path: Path
) -> None:
    config = load_config("image_folder", [f"data.root={picture_tree}", *changes])

    assert (config.data.crop_pct, config.data.interpolation) == expected
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_run_config(tmp_path) == config


def test_a_run_reads_images_as_the_one_that_it_starts_from(picture_tree: Path, tmp_path: Path) -> None:
    begun = load_config("image_folder", [f"data.root={picture_tree}"])
    (tmp_path / "config.yaml").write_text(dump_config(begun))
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=2, hidden_size=16)
    save_classifier(RunFolder(tmp_path).classifier(1), random_classifier(spec, 2), ("a", "b"))

    changes = [f"data.root={picture_tree}", "classifier=null", f"start={tmp_path}", "start_stage=2"]
    follows = load_config("image_folder", changes)
    differs = load_config("image_folder", [*changes, "data.interpolation=bilinear"])

    assert (follows.data.interpolation, differs.data.interpolation) == ("bicubic", "bilinear")


@pytest.mark.parametrize("name", ["crop_pct", "interpolation"])
def test_the_preprocessing_of_no_weights_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_config("image_folder", [f"data.{name}=weights", "initialization.weights=null"])


def test_weights_that_do_not_fit_are_found_before_anything_trains(
    picture_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"trunk.weight": torch.zeros(2)}, tmp_path / "small.pth")
    changes = ("classifier.encoder=resnet18", f"initialization.weights={tmp_path / 'small.pth'}")

    assert _train(picture_tree, tmp_path / "run", *changes) == 1

    assert "small.pth does not fit the encoder" in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "run").glob("**/*.safetensors"))


def test_a_stride_that_the_encoder_lacks_is_found_before_anything_trains(
    picture_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(build_encoder("small_resnet", 2).state_dict(), tmp_path / "small.pth")
    changes = ("classifier.encoder=small_resnet", f"initialization.weights={tmp_path / 'small.pth'}")

    assert (
        _train(picture_tree, tmp_path / "run", *changes, "classifier.feature_stride=null", "stage3.frozen_stride=32")
        == 1
    )

    assert "frozen_stride=32, but an encoder has no feature maps" in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "run").glob("**/*.safetensors"))
