"""The agent that learns by gradients through the crop."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from red_corner import MakeClassifier
from torch.nn import functional

from agents.algorithms.make_agent import make_agent
from agents.leaderboard.rows import read_rows
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.geometry import crop_between_pixels
from classifiers.networks.glance_focus import GlanceFocusClassifier
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task
from scripts.cli import main


def _env(source: ArrayImages, classifier: FrozenClassifier, **rules: Any) -> GlanceFocusVectorEnv:
    return GlanceFocusVectorEnv(Task(source, classifier), EpisodeSpec(**rules), num_envs=1, autoreset_mode="SAME_STEP")


def test_the_loss_falls_towards_what_the_patch_touches(
    color_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    classifier, images = color_classifier(), red_corner_images.images[:3]
    location = torch.tensor([[0.8, 0.8], [0.9, 0.75], [0.2, 0.2]], requires_grad=True)  # the last one sees gray alone

    patches = classifier.normalize(crop_between_pixels(images, location, 8))
    glimpse = GlanceFocusClassifier.focus(classifier, patches, torch.zeros(3, classifier.hidden_size))
    functional.cross_entropy(glimpse.logits, red_corner_images.labels[:3]).backward()  # type: ignore[no-untyped-call]

    assert location.grad is not None
    assert (location.grad[:2] < 0.0).all() and (location.grad[2] == 0.0).all()


def test_steps_are_looks_of_whole_batches(color_classifier: MakeClassifier, red_corner_images: ArrayImages) -> None:
    agent = make_agent("differentiable_crop", _env(red_corner_images, color_classifier(num_glimpses=4)), batch_size=3)

    agent.learn(10)

    assert agent.num_timesteps == 12  # three images, then the fourth, three looks each


def test_what_it_can_not_learn_is_refused(color_classifier: MakeClassifier, red_corner_images: ArrayImages) -> None:
    classifier = color_classifier()
    with pytest.raises(ValueError, match="leave out stop_action"):
        make_agent("differentiable_crop", _env(red_corner_images, classifier, stop_action=True))
    compiled = copy.copy(classifier)
    compiled.is_compiled = True
    agent = make_agent("differentiable_crop", _env(red_corner_images, compiled))
    with pytest.raises(ValueError, match="compile=False"):
        agent.learn(1)


def test_it_enters_the_leaderboard_with_its_looks_as_steps(tmp_path: Path) -> None:
    arguments = ["--steps", "90", "--seeds", "1", "--set", "rules.num_scenes=32", "test_images=24", "val_images=12"]

    assert main(["benchmark", "differentiable_crop", "--out", str(tmp_path), "--quiet", *arguments]) == 0

    (row,) = read_rows(tmp_path / "rows.csv")
    assert row.steps_taken == 96 and len(row.accuracy) == 4  # two batches of 16 images, three looks each
