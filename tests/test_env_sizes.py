"""Sizes of glance and patches as rules of the episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from red_corner import MEAN, MakeClassifier, action, red_probability

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, Task


def test_patches_and_glances_have_their_sizes(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    """Of a 16x16 patch in the corner a quarter is red; a glance of any size has the image's mean colour."""
    task = Task(red_corner_images, colour_classifier())
    resized = Task(task.source, task.classifier.with_spec(patch_size=16, glance_size=8))
    env = GlanceFocusEnv(resized, EpisodeSpec(reward="increment"))
    quarter = (120 + 135 / 4, 120 - 120 / 4)

    _, info = env.reset(seed=0)
    assert info["label_probability"] == pytest.approx(red_probability(MEAN), abs=1e-5)
    *_, info = env.step(action(1, 1))

    assert info["top_left_px"].tolist() == [16, 16] and info["patch_size"] == 16
    assert info["label_probability"] == pytest.approx(red_probability(MEAN, quarter), abs=1e-5)
    assert task.classifier.spec.patch_size == 8  # the task's own is left alone


def test_random_patches_of_the_reward_have_the_size_of_patches(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    """A patch as large as the image leaves no choice: a random one is the same, and the contrast is 0."""
    networks = colour_classifier().with_spec(patch_size=32, glance_size=8)
    env = GlanceFocusEnv(Task(red_corner_images, networks), EpisodeSpec(reward_samples=3))
    env.reset(seed=0)

    assert env.step(action(1, -1))[1] == pytest.approx(0.0, abs=1e-6)


def test_multiply_adds_follow_the_sizes(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    def spent(**sizes: int) -> list[int]:
        env = GlanceFocusEnv(Task(scenes, classifier.with_spec(**sizes)), EpisodeSpec())
        return [env.reset(seed=0)[1]["multiply_adds"], env.step(action(0, 0))[4]["multiply_adds"]]

    (glance, both), (small, _), (_, after_large) = spent(), spent(glance_size=24), spent(patch_size=96, glance_size=48)
    head = 3 * 16 * (96 + 16) + 16 * 10  # the GRU and its linear layer

    assert both == 2 * glance
    assert small - head == (glance - head) // 4  # a quarter of the pixels
    assert after_large - glance - head == 4 * (glance - head)


def test_feature_maps_have_one_shape(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier.with_spec(patch_size=32, glance_size=64)), EpisodeSpec())

    for observation in (env.reset(seed=0)[0], env.step(action(0, 0))[0]):
        assert observation["features"].shape == (96, 8, 8)  # the glance's own
        assert observation in env.observation_space


def test_the_glance_is_the_image_made_as_small_as_asked(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    networks = colour_classifier(patch_size=16).with_spec(glance_size=8)
    env = GlanceFocusEnv(Task(red_corner_images, networks), EpisodeSpec())
    env.reset(seed=0)

    pixels = env.dynamics.classifier.first_input(env.dynamics.images)

    assert pixels.shape == (1, 3, 8, 8)
    assert (pixels[0, 0] == 120).sum() == 60 and (pixels[0, 0] == 255).sum() == 4


def test_image_folders_take_the_sizes_too(wordnet_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pretrained network, the weights where torchvision would have downloaded them to."""
    import torchvision

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.get_model_weights("resnet18").DEFAULT
    file = tmp_path / "hub" / "checkpoints" / Path(weights.url).name
    file.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), file)
    options: dict[str, Any] = {"root": wordnet_tree, "image_size": (96, 128), "classifier": "average:resnet18"}

    plain, small = (
        gymnasium.make("GFNet-ImageFolder-v0", **options, **sizes)
        for sizes in ({}, {"patch_size": 64, "glance_size": 32})
    )

    assert plain.reset(seed=0)[0]["features"].shape == (512, 3, 3)  # 96 pixels a side
    observation, info = small.reset(seed=0)
    assert observation["features"].shape == (512, 2, 2) and info["patch_size"] == 64
    assert (
        gymnasium.make("GFNet-ImageFolder-v0", **options, patch_size=64).reset(seed=0)[1]["multiply_adds"]
        > (info["multiply_adds"])
    )  # the glance goes with the patches unless it has a size of its own
