"""What `info` says, in both layouts, and that Stable-Baselines3 finds the success of episodes in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.callbacks import EvalCallback

from agents import as_sb3, make_agent
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task


def test_info_says_where_and_how_sure(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec())

    _, info = env.reset(seed=0)
    assert info["step"] == 1 and np.isnan(info["location"]).all() and "is_success" not in info
    assert 0.0 < info["entropy"] <= np.log(10) + 1e-6
    for step, action in enumerate(([0.0, 1.0], [-0.5, 0.0], [-1.0, -1.0]), start=2):
        _, _, terminated, _, info = env.step(np.array(action, np.float32))
        assert info["step"] == step
        assert np.allclose(info["location"], (np.array(action) + 1.0) / 2.0)
        assert ("is_success" in info) is terminated

    assert info["is_success"] is (info["prediction"] == info["label"])


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_success_is_told_at_the_end_of_rows_only(classifier: FrozenClassifier, scenes: ArrayImages, mode: str) -> None:
    rules = EpisodeSpec(reward="increment", stop_action=True)
    env = GlanceFocusVectorEnv(Task(scenes, classifier), rules, num_envs=3, autoreset_mode=mode)
    assert "is_success" not in env.reset(seed=0)[1]
    going_on = np.array([[0, 0, -1], [0, 0, -1], [0, 0, -1]], np.float32)
    assert "is_success" not in env.step(going_on)[-1]
    right = env.dynamics.is_right()
    stopping = going_on.copy()
    stopping[1, 2] = 1.0

    *_, terminated, _, info = env.step(stopping)

    final = info["final_info"] if mode == "SAME_STEP" else info
    assert terminated.tolist() == final["_is_success"].tolist() == [False, True, False]
    assert final["is_success"].tolist() == [False, bool(right[1]), False]
    assert ("is_success" in info) is (mode != "SAME_STEP")


def test_sb3_logs_success_rates(classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path) -> None:
    task = Task(scenes, classifier.with_spec(num_glimpses=2))

    def env() -> GlanceFocusVectorEnv:
        return GlanceFocusVectorEnv(task, EpisodeSpec(), num_envs=4, autoreset_mode="SAME_STEP")

    callback = EvalCallback(as_sb3(env()), n_eval_episodes=24, eval_freq=2, log_path=str(tmp_path), verbose=0)
    agent = make_agent("ppo", env(), n_steps=2, batch_size=8, seed=0)
    agent.learn(8, callback=callback)

    successes = np.load(tmp_path / "evaluations.npz")["successes"]
    assert successes.shape == (1, 24)
    assert agent.ep_success_buffer is not None and len(agent.ep_success_buffer) == 8  # every training episode, too


def test_sb3_finds_the_success_of_each_finished_row(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    task = Task(scenes, classifier.with_spec(num_glimpses=3))
    env = as_sb3(GlanceFocusVectorEnv(task, EpisodeSpec(), num_envs=3, autoreset_mode="SAME_STEP"))
    env.reset()

    _, _, _, during = env.step(np.zeros((3, 2), np.float32))
    _, _, done, after = env.step(np.zeros((3, 2), np.float32))

    assert done.all() and not any("is_success" in info for info in during)
    assert [bool(info["is_success"]) for info in after] == [info["prediction"] == info["label"] for info in after]
