"""Ids of one's own: their rules, thresholds and scores, and several boxes for an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import expected_checker_warnings
from gymnasium.utils.env_checker import check_env

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import TASKS, ScoreScale, Task, register_task
from gfnet_env.rendering import TRUE_BOX

ID = "Corners-v0"
RULES = {"reward": "increment", "stop_action": True, "step_cost": "multiply_adds", "price": 0.1}


@pytest.fixture
def register(
    color_classifier: Callable[..., FrozenClassifier], red_corner_images: ArrayImages
) -> Iterator[Callable[..., None]]:
    """Registers the task of the red corner, whose images have two boxes."""
    boxes = torch.tensor([[[24, 24, 32, 32], [0, 0, 8, 8]]]).repeat(4, 1, 1)

    def corners_task(*, split: str = "train", shade: int = 0) -> Task:
        source = red_corner_images
        return Task(ArrayImages(source.images, source.labels, boxes, source.class_names), color_classifier())

    yield lambda **given: register_task(ID, corners_task, **given)
    TASKS.pop(ID, None)
    gymnasium.registry.pop(ID, None)


def test_arguments_come_before_the_rules_of_the_id(register: Callable[..., None]) -> None:
    register(rules=RULES, reward_threshold=0.4)

    own: Any = gymnasium.make(ID).unwrapped
    changed: Any = gymnasium.make(ID, step_cost=0.2, stop_action=False).unwrapped

    assert own.dynamics.spec.price == 0.1 and own.action_space.names == ("row", "col", "stop")
    assert changed.dynamics.spec.price is None and changed.action_space.names == ("row", "col")
    assert changed.dynamics.spec.reward == "increment"
    assert gymnasium.spec(ID).reward_threshold == 0.4 and TASKS[ID].rules == RULES
    with pytest.raises(ValueError, match=f"rules of {ID}: price is missing"):
        register(rules={"step_cost": "multiply_adds"})


@expected_checker_warnings
@pytest.mark.parametrize("of", ["accuracy", "return"])
def test_scores_are_those_of_the_scale(register: Callable[..., None], of: Any) -> None:
    register(rules={"reward": "increment"}, scale=ScoreScale(0.2, 0.6, of))
    env: Any = gymnasium.make(ID)
    envs: Any = gymnasium.make_vec(ID, num_envs=2, autoreset_mode="SAME_STEP")

    _, info = env.reset(seed=0)
    envs.reset(seed=0)
    earned = 0.0
    for step in range(2):
        assert info["score"] == 0.0
        _, reward, _, _, info = env.step(np.ones(2, np.float32))
        earned += float(reward)
        infos = envs.step(np.ones((2, 2), np.float32))[-1]
        assert ("final_info" in infos) == (step == 1)

    value = earned if of == "return" else float(info["is_success"])
    assert info["score"] == pytest.approx((value - 0.2) / 0.4)
    assert infos["final_info"]["score"].tolist() == pytest.approx([info["score"]] * 2)
    assert infos["score"].tolist() == [0.0, 0.0]
    check_env(gymnasium.make(ID).unwrapped, skip_render_check=True)


def test_other_sizes_rules_and_images_have_no_score(register: Callable[..., None]) -> None:
    register(scale=ScoreScale(0.2, 0.6))

    def has_score(**given: Any) -> bool:
        return "score" in gymnasium.make(ID, **given).reset(seed=0)[1]

    assert has_score() and has_score(split="test", observe=("hidden",), num_glimpses=3)
    assert has_score(reward="increment") and has_score(reward_samples=2)  # accuracies do not depend on it
    for given in ({"patch_size": 10}, {"num_glimpses": 2}, {"exit_confidence": 0.9}, {"shade": 1}):
        assert not has_score(**given)
    gymnasium.registry.pop(ID)
    register(scale=ScoreScale(0.2, 0.6, "return"))
    assert has_score() and not has_score(reward="increment")
    with pytest.raises(ValueError, match=r"both 0\.5"):
        ScoreScale(0.5, 0.5)


def test_all_boxes_are_in_info_and_pictures(register: Callable[..., None]) -> None:
    register()
    env: Any = gymnasium.make(ID, render_mode="rgb_array")

    _, info = env.reset(seed=0)

    assert info["boxes"].tolist() == [[24, 24, 32, 32], [0, 0, 8, 8]]
    assert gymnasium.make_vec(ID, num_envs=3).reset(seed=0)[1]["boxes"].shape == (3, 2, 4)
    outline = (env.render() == TRUE_BOX).all(axis=2)
    assert outline[:150, :150].any() and outline[300:, 300:400].any() and not outline[:150, 300:].any()
