"""The suite's drawn tasks: their rules, and that their classifiers are referees that can be trusted."""

from __future__ import annotations

import random

import gymnasium
import numpy as np
import pytest
import torch

import agents
from agents.policies.baselines import RandomPolicy, ReferencePolicy, center_location
from classifiers.data.drawings import DrawingSpec, Scene
from classifiers.data.drawn_tasks.boards import scattered
from classifiers.data.drawn_tasks.count import NUM_SIGNS, CountSpec
from classifiers.data.drawn_tasks.pointer import PointerSpec
from classifiers.data.drawn_tasks.search import SearchSpec
from classifiers.data.drawn_tasks.sign_pair import SignPairSpec
from classifiers.data.registry import make_collection
from gfnet_env.actions import to_action
from gfnet_env.suite import SUITE, SuiteTask

TASKS = [task for name, task in SUITE.items() if name != "zoom_stop"]  # whose rules are others
SPECS: list[DrawingSpec] = [SignPairSpec(), SearchSpec(), PointerSpec(), CountSpec()]


def _scenes(spec: DrawingSpec, count: int = 40) -> list[Scene]:
    return [spec.draw_scene("train", index) for index in range(count)]


def _centers(scene: Scene) -> np.ndarray:
    return np.asarray((scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_scenes_are_drawn_again_alike_and_boxes_lie_inside(spec: DrawingSpec) -> None:
    scenes = _scenes(spec)

    again = spec.draw_scene("train", 3)
    np.testing.assert_array_equal(again.image, scenes[3].image)
    assert (spec.draw_scene("val", 3).image != again.image).any()
    for scene in scenes:
        assert scene.image.shape == (192, 256, 3) and scene.boxes.shape == (spec.num_boxes, 4)
        assert (scene.boxes[:, :2] >= 0).all() and (scene.boxes[:, 2:] <= [192, 256]).all()
        assert (scene.boxes[:, 2:] - scene.boxes[:, :2] <= 64).all()  # a patch can hold each
    labels = {scene.label for scene in scenes}
    assert labels <= set(range(len(spec.classes))) and len(labels) >= 3


def test_no_patch_holds_both_signs_of_a_pair() -> None:
    for scene in _scenes(SignPairSpec()):
        left, right = scene.boxes
        assert right[3] - left[1] > 64
        assert left[3] <= 256 / 3 + 1 and right[1] >= 256 * 2 / 3 - 1


def test_the_arrow_stands_at_any_corner_and_its_disc_on_any_side() -> None:
    sides = [(0, -64), (0, 64), (-52, 0), (52, 0)]
    corners, chosen, labels = set(), set(), set()
    for scene in _scenes(PointerSpec(), 80):
        sign, disc = _centers(scene) - (96, 128)
        side = min(sides, key=lambda side: np.abs(disc - side).max())
        assert (np.abs(disc - side) <= (13, 17)).all() and (np.abs(np.abs(sign) - (52, 64)) <= (13, 17)).all()
        corners.add(tuple(sign > 0))
        chosen.add(side)
        labels.add(scene.label)
    assert len(corners) == len(chosen) == len(labels) == 4


def test_scattered_boards_keep_apart() -> None:
    for seed in range(10):
        centers = np.array(scattered(random.Random(seed), 192, 256, 8, 15, 44))
        gaps = np.abs(centers[:, None] - centers[None]).max(axis=2) + 1000 * np.eye(8)
        assert gaps.min() >= 44


def test_half_of_the_signs_count() -> None:
    labels = [scene.label for scene in _scenes(CountSpec(), 200)]
    assert np.mean(labels) == pytest.approx(NUM_SIGNS / 2, abs=4 * np.sqrt(1.5 / 200))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.env_id)
def test_the_reference_reads_what_the_glance_does_not_tell(task: SuiteTask) -> None:
    made = task.make_task(split="test", num_scenes=150)
    reference = ReferencePolicy(made.source.image_size, made.classifier.spec.patch_sizes)

    by_step = agents.accuracy_by_step(agents.evaluate(made.classifier, made.source, reference))
    at_random = agents.accuracy_by_step(agents.evaluate(made.classifier, made.source, RandomPolicy(0)))

    chance = made.source.fetch(torch.arange(150)).labels.bincount().max().item() / 150
    assert len(by_step) == task.num_glimpses
    assert by_step[0] < chance + 0.12  # standard errors of 150 scenes are 0.02 to 0.04
    assert task.scale is not None
    assert by_step[-1] == pytest.approx(task.scale.reference, abs=0.12)
    assert at_random[-1] == pytest.approx(task.scale.random, abs=0.12)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.env_id)
def test_an_id_plays_with_nothing_passed_but_fewer_scenes(task: SuiteTask) -> None:
    env = gymnasium.make(task.env_id, num_scenes=4)
    assert env.spec is not None and env.spec.reward_threshold == task.reward_threshold

    _, info = env.reset(seed=0)
    assert info["score"] == 0.0 and info["boxes"].shape == (task.spec.num_boxes, 4)
    steps, finished, rewards = 0, False, 0.0
    while not finished:
        _, reward, finished, _, info = env.step(env.action_space.sample())
        rewards += float(reward)
        steps += 1

    assert steps == task.num_glimpses - 1
    assert task.scale is not None
    assert info["score"] == pytest.approx(task.scale.score(float(info["is_success"])))
    assert -1 <= rewards <= 1  # the gain in the label's probability


def test_a_disc_counts_only_after_its_arrow() -> None:
    envs = gymnasium.make_vec("GFNet-Pointer-v0", num_envs=100, num_scenes=100, split="test", autoreset_mode="DISABLED")

    def accuracy(*looks: int) -> float:
        _, info = envs.reset(options={"index": np.arange(100)})
        for look in looks:
            box = torch.from_numpy(info["boxes"][:, look])
            sides = torch.full((100,), 64)
            _, _, _, _, info = envs.step(to_action(center_location(box, torch.tensor((192, 256)), sides)))
        return float((info["prediction"] == info["label"]).mean())

    arrow, disc = 0, 1
    assert accuracy(arrow, disc) > 0.9 and accuracy(disc, arrow, disc) > 0.9
    assert max(accuracy(disc), accuracy(arrow), accuracy(disc, arrow)) < 0.4


def test_kinds_of_data_are_named_after_the_tasks() -> None:
    for name, task in SUITE.items():
        images = make_collection({"kind": name, "num_train": 4, "num_val": 2, "num_test": 2})
        source = images.open("val")
        assert len(source) == 2 and source.image_size == images.image_size == (192, 256)
        assert images.class_names() == source.class_names == task.spec.classes
