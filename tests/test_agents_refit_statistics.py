"""A network that learns nothing with fixed batch statistics is trained once more."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from conftest import Notes

from agents.runs.config_files import load_config
from agents.runs.pipeline import Pipeline
from classifiers.networks.full_resolution import FullResolutionNetwork


def _has_fixed_statistics(network: FullResolutionNetwork) -> bool:
    """Whether they are those of a network that starts at random."""
    found = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    return all(bool((module.running_mean == 0).all()) for module in found)


def test_what_is_learned_with_fixed_statistics_is_kept(picture_tree: Path, tmp_path: Path) -> None:
    small = [
        *(f"data.root={picture_tree}", "data.height=96", "data.width=128", "classifier.feature_stride=null"),
        *("classifier.encoder=small_resnet", "initialization.weights=null", "classifier.patch_size=48"),
        *("initialization.full_resolution.min_steps=null", "initialization.low_resolution.min_steps=null"),
        "initialization.low_resolution.epochs=1",
    ]

    def train(name: str, *changes: str) -> tuple[FullResolutionNetwork, FullResolutionNetwork, list[str]]:
        reporter = Notes()
        pipeline = Pipeline(load_config("image_folder", [*small, *changes]), tmp_path / name, reporter)
        whole, low = pipeline.full_resolution(), pipeline.low_resolution()
        assert whole is not None
        return whole, low, [text for text in reporter.heard if "network" in text]

    long = ("initialization.full_resolution.epochs=60", "initialization.full_resolution.lr=0.003")
    whole, low, titles = train("learned", *long)
    assert titles == ["full-resolution network", "low-resolution network, 48"]
    assert _has_fixed_statistics(whole) and _has_fixed_statistics(low)

    nothing = ("initialization.full_resolution.epochs=1", "initialization.full_resolution.lr=1e-9")
    whole, low, titles = train("unlearned", *nothing)
    assert titles[0] == "full-resolution network" and "has learned nothing" in titles[1]
    assert titles[2:] == ["full-resolution network, once more", "low-resolution network, 48"]
    assert not _has_fixed_statistics(whole) and not _has_fixed_statistics(low)
    found = json.loads((tmp_path / "unlearned" / "initialization" / "full_resolution.unlearned.json").read_text())
    assert found["accuracy"] <= 0.75 and found["most_frequent_class"] == 0.5

    (tmp_path / "unlearned" / "initialization" / "full_resolution.safetensors").unlink()  # as if interrupted
    assert train("unlearned", *nothing)[2] == ["full-resolution network, once more"]
    assert train("kept", *nothing, "initialization.refit_statistics=false")[2][1:] == ["low-resolution network, 48"]
