"""The embedded task of clips: an environment that works with nothing passed, on networks that come with the package."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from conftest import expected_checker_warnings
from gymnasium.utils.env_checker import check_env

from classifiers.checkpoints import load_classifier, load_full_resolution
from classifiers.data.synthetic_gestures.clips import CLASS_NAMES, GestureSpec, draw_gesture
from classifiers.networks.costs import encoder_cost
from gfnet_env.env import GlanceFocusEnv
from gfnet_env.tasks import PRETRAINED_GESTURES_RUN, run_weights, synthetic_gestures_task

ID = "gfnet_env:GFNet-SyntheticGestures-v0"


@expected_checker_warnings
def test_it_works_bare_and_passes_gymnasiums_checks() -> None:
    env = gymnasium.make(ID, render_mode="rgb_array")

    check_env(env.unwrapped, skip_render_check=True)

    observation, info = env.reset(seed=0, options={"index": 7})
    drawn = draw_gesture(GestureSpec(), "train", 7)
    assert info["label"] == drawn.label and env.observation_space.contains(observation)
    assert info["box"][:2].tolist() == drawn.boxes[:, :2].min(axis=0).tolist()
    picture = env.render()
    assert isinstance(picture, np.ndarray) and picture.shape[1] > 4 * picture.shape[0] * 0.8  # four frames in a row
    env.close()


def test_shipped_networks_are_small_and_know_the_classes() -> None:
    classifier, names = load_classifier(run_weights(PRETRAINED_GESTURES_RUN))
    baseline = load_full_resolution(PRETRAINED_GESTURES_RUN / "initialization" / "full_resolution.safetensors")

    assert names == CLASS_NAMES and classifier.spec.num_frames == 8
    assert sum(file.stat().st_size for file in PRETRAINED_GESTURES_RUN.rglob("*") if file.is_file()) < 3 << 20
    frame = encoder_cost(baseline.encoder, (96, 96), with_classifier=True)
    assert encoder_cost(classifier.global_encoder, (24, 24), with_classifier=True) < 0.1 * frame


def test_a_look_at_the_red_disc_tells_the_class_and_a_glance_does_not() -> None:
    """The networks of stage I on 60 clips of the test split."""
    task = synthetic_gestures_task(split="test", num_clips=60)
    batch = task.source.fetch(torch.arange(60))
    side = task.classifier.spec.patch_size
    centre = (batch.boxes[:, :2] + batch.boxes[:, 2:]) / 2
    at_disc = ((centre - side / 2) / (96 - side)).clamp(0, 1)

    glance = task.classifier.glance(batch.images)
    looks = {"disc": at_disc, "corner": torch.zeros(60, 2)}
    seen = {name: task.classifier.look(batch.images, place, glance.hidden).logits for name, place in looks.items()}

    right = {name: float((logits.argmax(1) == batch.labels).float().mean()) for name, logits in seen.items()}
    assert right["disc"] > 0.8
    assert right["corner"] < 0.4
    assert float((glance.logits.argmax(1) == batch.labels).float().mean()) < 0.4
    task.source.close()


def test_rows_of_a_vector_environment_are_those_of_single_ones() -> None:
    vector = gymnasium.make_vec(ID, num_envs=2, num_clips=12)
    singles = [gymnasium.make(ID, num_clips=12) for _ in range(2)]
    action = np.array([0.3, -0.4], np.float32)

    _, infos = vector.reset(seed=5)
    _, rewards, *_ = vector.step(np.stack([action, action]))

    for row, env in enumerate(singles):
        _, info = env.reset(seed=5 + row)
        _, reward, *_ = env.step(action)
        assert info["label"] == infos["label"][row] and reward == pytest.approx(rewards[row], abs=1e-5)
        env.close()
    vector.close()


def test_other_clips_and_splits_are_arguments() -> None:
    env = gymnasium.make(ID, split="val", num_clips=3, gestures=GestureSpec(noise=0.0, seed=4), patch_size=40)
    ours = env.unwrapped
    assert isinstance(ours, GlanceFocusEnv)

    _, info = ours.reset(options={"index": 2})

    assert info["label"] == draw_gesture(GestureSpec(noise=0.0, seed=4), "val", 2).label
    assert ours.dynamics.patch_sizes == (40,) and len(ours.task.source) == 3
    ours.close()
