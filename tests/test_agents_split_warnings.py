"""Splits with too few images, or too few of some classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import Notes

from agents.runs.config_files import load_config
from agents.runs.pipeline import Pipeline
from agents.runs.split_warnings import split_warnings

NAMES = ("ant", "bee")


def _labels(ants: int, bees: int) -> torch.Tensor:
    return torch.tensor([0] * ants + [1] * bees)


def test_enough_images_of_all_classes_are_no_news() -> None:
    labels = {"train": _labels(100, 10), "val": _labels(190, 10), "test": _labels(5, 5)}

    assert split_warnings(labels, NAMES, "val", is_weighted=False) == []


def test_unequal_classes_are_named_unless_they_are_weighted() -> None:
    labels = {"train": _labels(10, 300)}

    (text,) = split_warnings(labels, NAMES, "train", is_weighted=False)

    assert "300 images of 'bee' and 10 of 'ant'" in text and "class_weight=balanced" in text
    assert split_warnings(labels, NAMES, "train", is_weighted=True) == []


def test_few_images_are_counted_where_they_matter() -> None:
    labels = {"train": _labels(20, 20), "val": _labels(195, 4), "test": _labels(8, 0)}

    overfit, val, test = split_warnings(labels, NAMES, "val", is_weighted=False)

    assert overfit.startswith("val holds 199 images") and "'bee' (4)" in val and "'bee' (0)" in test
    assert len(split_warnings(labels, NAMES, "train", is_weighted=False)) == 2  # thresholds are found elsewhere


def test_a_training_says_it_first_and_weighs_its_losses(picture_tree: Path, tmp_path: Path) -> None:
    for path in sorted((picture_tree / "train" / "left").iterdir())[1:]:
        path.unlink()
    (picture_tree / "val").rename(picture_tree / "test")
    (picture_tree / "train" / "right" / "x.jpg").hardlink_to(next((picture_tree / "train" / "right").iterdir()))
    (picture_tree / "val").symlink_to(picture_tree / "test")
    settings = [
        f"data.root={picture_tree}",
        "data.height=96",
        "data.width=128",
        "initialization.refit_statistics=false",
    ]
    stops = [*settings, "stage2.options.learning_rat=0.1"]
    reporter = Notes()

    with pytest.raises(ValueError, match="learning_rat"):
        Pipeline(load_config("image_folder", stops), tmp_path / "a", reporter).run()

    assert [text.split(" images")[0] for text in reporter.notes] == [
        "train holds 13",
        "train holds fewer than 5",
        "val holds 12",
    ]
    trains = [f"initialization.full_resolution.{each}" for each in ("epochs=2", "optimizer=sgd", "warmup=0")]
    weights = []
    for name, more in {"plain": [], "weighted": ["class_weight=balanced"]}.items():
        config = load_config("image_folder", [*settings, *trains, *more])
        network = Pipeline(config, tmp_path / name, Notes()).full_resolution()
        assert network is not None
        weights.append(network.encoder.classifier.bias)
    assert not torch.allclose(weights[0], weights[1], atol=1e-5)
