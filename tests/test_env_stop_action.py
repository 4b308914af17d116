"""A learned stop: what it costs, what it earns, and rows that stop by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from red_corner import MakeClassifier, action

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task
from gfnet_env.actions import to_decisions


def test_stopping_costs_nothing_and_earns_nothing(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    episode = EpisodeSpec(reward="increment", step_cost=0.25, stop_action=True)
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier()), episode)
    env.reset(seed=0)
    observation, *_, before = env.step(action(1, 1, 0.0))  # 0 is not above 0: it looks
    assert before["stopped"] is False and before["top_left_px"].tolist() == [24, 24]

    after, reward, terminated, truncated, info = env.step(action(-1, -1, 1e-3))

    assert (reward, terminated, truncated) == (0.0, True, False)
    assert all(np.array_equal(observation[key], after[key]) for key in observation)
    assert info["stopped"] is True
    for key in before.keys() - {"stopped"}:  # prediction, multiply-adds and all else as they were
        assert np.array_equal(info[key], before[key]), key
    with pytest.raises(RuntimeError, match=r"finished episode; call reset\(\) first"):
        env.step(action(0, 0, 0))
    assert env.reset(seed=1)[1]["stopped"] is False


def test_an_episode_may_stop_after_the_glance(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec(stop_action=True))
    _, first = env.reset(seed=0)

    _, reward, terminated, _, info = env.step(action(0.3, 0.3, 1.0))

    assert (reward, terminated) == (0.0, True)
    assert info["multiply_adds"] == first["multiply_adds"] == env.dynamics.costs[0]
    assert info["prediction"] == first["prediction"] and info["top_left_px"].tolist() == [-1, -1]


def _mixed(classifier: FrozenClassifier, scenes: ArrayImages, mode: str) -> tuple[GlanceFocusVectorEnv, Any, Any]:
    """After a step in which row 0 looked and row 1 stopped; and the info before it."""
    envs = GlanceFocusVectorEnv(
        Task(scenes, classifier), EpisodeSpec(stop_action=True, step_cost=0.1), num_envs=2, autoreset_mode=mode
    )
    observation, info = envs.reset(seed=5)
    step = envs.step(np.array([[0.5, 0.5, -1.0], [0.5, 0.5, 1.0]], np.float32))
    assert step[2].tolist() == [False, True] and not step[3].any()
    assert step[1][0] != 0.0 and step[1][1] == 0.0
    return envs, (observation, info), step


def test_rows_stop_by_themselves_next_step(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    envs, (before, first), (observation, *_, info) = _mixed(classifier, scenes, "NEXT_STEP")
    assert info["stopped"].tolist() == [False, True]
    assert np.array_equal(observation["features"][1], before["features"][1])
    assert info["multiply_adds"].tolist() == [envs.dynamics.costs[:2].sum(), first["multiply_adds"][1]]

    _, reward, terminated, _, info = envs.step(np.array([[0, 0, -1], [0, 0, 1]], np.float32))

    assert not terminated.any() and reward[1] == 0.0  # row 1's action was ignored: it began anew
    assert info["stopped"].tolist() == [False, False]
    assert (info["top_left_px"][1] == -1).all() and info["multiply_adds"][0] == envs.dynamics.costs[:3].sum()


def test_rows_stop_by_themselves_same_step(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    _, (before, first), (observation, *_, info) = _mixed(classifier, scenes, "SAME_STEP")

    assert info["_final_obs"].tolist() == [False, True]
    assert np.array_equal(info["final_obs"][1]["hidden"], before["hidden"][1])
    assert info["final_info"]["stopped"][1] and info["final_info"]["prediction"][1] == first["prediction"][1]
    assert not info["stopped"].any()
    assert not np.array_equal(observation["features"][1], before["features"][1])


def test_rows_stop_by_themselves_disabled(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    envs, _, _ = _mixed(classifier, scenes, "DISABLED")
    with pytest.raises(RuntimeError, match=r"rows \[1\] have finished"):
        envs.step(np.zeros((2, 3), np.float32))

    _, info = envs.reset(options={"reset_mask": np.array([False, True])})

    assert not info["stopped"].any()
    envs.step(np.zeros((2, 3), np.float32))


def test_a_step_in_which_all_stop_encodes_nothing(
    classifier: FrozenClassifier, scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    envs = GlanceFocusVectorEnv(
        Task(scenes, classifier), EpisodeSpec(stop_action=True), num_envs=3, autoreset_mode="DISABLED"
    )
    envs.reset(seed=0)
    monkeypatch.setattr(FrozenClassifier, "focus", None)

    assert envs.step(np.ones((3, 3), np.float32))[2].all()


def test_actions_of_the_other_variant_are_refused(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec(stop_action=True))
    env.reset(seed=0)

    with pytest.raises(ValueError, match=r"actions of shape \(1, 2\); pass one \(row, col, stop\)"):
        env.step(action(0, 0))
    with pytest.raises(ValueError, match=r"is outside Box\(-1, 1, \(3,\)\); clip actions"):
        env.step(action(0, 0, 1.5))
    with pytest.raises(ValueError, match=r"actions of shape \(1, 3\); pass one \(row, col\)"):
        to_decisions(np.zeros((1, 3)), 1, ("row", "col"))
