"""Observations of pixels: what was looked at itself, for encoders of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import expected_checker_warnings
from stable_baselines3 import PPO

import agents
from agents.recognition.onnx_export import export_onnx
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.geometry import resize
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task

PIXELS = ("glance_pixels", "patch_pixels")


def test_the_glance_and_the_last_patch_are_seen(
    color_classifier: Callable[..., FrozenClassifier], red_corner_images: ArrayImages
) -> None:
    env = GlanceFocusEnv(Task(red_corner_images, color_classifier()), EpisodeSpec(observe=PIXELS))

    first, _ = env.reset(seed=0)
    corner = env.step(np.ones(2, np.float32))[0]
    gray = env.step(-np.ones(2, np.float32))[0]

    assert {key: (value.dtype.name, value.shape) for key, value in first.items()} == dict.fromkeys(
        PIXELS, ("uint8", (3, 8, 8))
    )
    assert first["glance_pixels"][:, -1, -1].tolist() == [255, 0, 120]  # the mean of 4x4 pixels
    assert first["glance_pixels"][:, 0, 0].tolist() == [120, 120, 120]
    assert not first["patch_pixels"].any()
    assert (corner["patch_pixels"] == np.array([255, 0, 120])[:, None, None]).all()
    assert (gray["patch_pixels"] == 120).all()
    assert np.array_equal(gray["glance_pixels"], first["glance_pixels"])


def test_smaller_patches_are_resized_to_the_largest(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    networks = classifier.with_spec(patch_sizes=(24, 48))
    env = GlanceFocusEnv(Task(scenes, networks), EpisodeSpec(observe=("patch_pixels",)))
    env.reset(options={"index": 3, "patch_sizes": [24, 48, 24]})

    small = env.step(np.ones(2, np.float32))[0]["patch_pixels"]
    large = env.step(np.ones(2, np.float32))[0]["patch_pixels"]

    image = scenes.images[3]
    assert np.array_equal(large, image[:, -48:, -48:].numpy())
    enlarged = resize(image[None, :, -24:, -24:], (48, 48), "bilinear")[0]
    assert np.abs(small - enlarged.numpy()).max() <= 0.5


@expected_checker_warnings
def test_an_agent_with_its_own_encoder_looks_alike_everywhere(
    classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Any
) -> None:
    rules = EpisodeSpec(observe=(*PIXELS, "progress"), reward="increment")
    envs = GlanceFocusVectorEnv(Task(scenes, classifier), rules, num_envs=8, autoreset_mode="SAME_STEP")
    agent = PPO("MultiInputPolicy", agents.as_sb3(envs), n_steps=3, batch_size=24, n_epochs=1, seed=0)
    agent.learn(24)

    seen, _ = envs.reset(options={"index": np.arange(8)})
    played = []
    for _ in range(3):
        actions, _ = agent.predict(seen, deterministic=True)
        played.append((actions + 1) / 2)
        seen = envs.step(actions)[0]
    record = agents.evaluate(classifier, scenes, agent)
    recognizer = agents.Recognizer(classifier, agents.DeterministicPolicy(agent), class_names=scenes.class_names)
    found = recognizer.predict(scenes.images[:8])

    assert np.allclose(record.location[:8], np.stack(played, axis=1), atol=1e-4)
    assert np.allclose(found.locations, record.location[:8], atol=1e-4)
    rules = EpisodeSpec(observe=PIXELS)
    only = GlanceFocusVectorEnv(Task(scenes, classifier), rules, num_envs=2, autoreset_mode="SAME_STEP")
    with pytest.raises(ValueError, match="MultiInputPolicy"):
        agents.make_agent("ppo", only)
    recognizer.image_size = scenes.image_size
    pytest.importorskip("onnxscript")
    with pytest.raises(ValueError, match="reads glance_pixels"):
        export_onnx(recognizer, tmp_path)


def test_the_policies_of_make_agent_leave_pixels_alone(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    rules = EpisodeSpec(observe=(*PIXELS, "features"))
    envs = GlanceFocusVectorEnv(Task(scenes, classifier), rules, num_envs=2, autoreset_mode="SAME_STEP")
    extractor = agents.GlimpseExtractor(envs.single_observation_space, conv_channels=2, units=4)

    assert (extractor.maps, extractor.vectors) == (["features"], [])
    assert extractor({"features": torch.zeros(1, *classifier.feature_shape())}).shape == (1, 4)
