"""Rewards of one's own: what they are given, and that they are no others in a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from agents.runs.config import Stage2Spec
from gfnet_env import REWARDS, EpisodeSpec, register_reward
from gfnet_env.rewards import REWARD_ARGUMENTS

ID = "GFNet-SyntheticSigns-v0"


def _rewards(num_envs: int = 3, **rules: Any) -> np.ndarray:
    """(steps, num_envs) rewards of the same two episodes and the same places, whatever the reward."""
    env = gymnasium.make_vec(ID, num_envs=num_envs, num_scenes=6, autoreset_mode="SAME_STEP", **rules)
    env.reset(seed=4)
    rng = np.random.default_rng(0)
    return np.stack([env.step(rng.uniform(-1, 1, (3, 2))[:num_envs].astype(np.float32))[1] for _ in range(6)])


def test_functions_are_given_what_they_name() -> None:
    def doubled(probability: torch.Tensor, previous_probability: torch.Tensor) -> torch.Tensor:
        return 2 * (probability - previous_probability)

    def worst(random_probabilities: torch.Tensor, probability: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        assert random_probabilities.shape == (2, len(probability))
        return scale * (probability - random_probabilities.mean(dim=0))

    assert np.allclose(_rewards(reward=doubled), 2 * _rewards(reward="increment"))
    assert np.allclose(_rewards(reward=worst, reward_samples=2), _rewards(reward_samples=2))
    with pytest.raises(ValueError, match="reward_samples=2 with reward=doubled, which draws none"):
        EpisodeSpec(reward=doubled, reward_samples=2)


def test_success_alone_may_be_rewarded() -> None:
    env: Any = gymnasium.make(ID, num_scenes=8, reward=lambda is_right, is_last: (is_right & is_last).float())
    successes = []
    for seed in range(8):
        env.reset(seed=seed)
        for step in range(3):
            _, reward, terminated, _, info = env.step(np.zeros(2, np.float32))
            assert reward == float(info["is_success"]) and terminated == (step == 2)
        successes.append(reward)

    assert set(successes) == {0.0, 1.0}


def test_a_reward_may_do_without_labels() -> None:
    env: Any = gymnasium.make(ID, num_scenes=8, reward=lambda entropy, previous_entropy: previous_entropy - entropy)
    _, info = env.reset(seed=0)
    for place in (-0.5, 0.5):
        before = info["entropy"]
        _, reward, _, _, info = env.step(np.full(2, place, np.float32))
        assert reward == pytest.approx(before - info["entropy"], abs=1e-5) != 0.0


@pytest.mark.parametrize("name", ["contrastive", "mine"])
def test_a_batch_gets_what_its_rows_get(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(**given: torch.Tensor) -> np.ndarray:
        assert tuple(given) == REWARD_ARGUMENTS
        return (given["probability"] * given["random_probabilities"][0] + given["is_right"].float()).numpy()

    monkeypatch.setitem(REWARDS, "mine", mine)
    env = gymnasium.make_vec(ID, num_envs=2, num_scenes=6, autoreset_mode="DISABLED", reward=name)
    single: Any = gymnasium.make(ID, num_scenes=6, reward=name)
    env.reset(seed=7)
    single.reset(seed=8)  # row 1

    for place in (-0.5, 0.25, 0.75):
        action = np.full(2, place, np.float32)
        assert env.step(np.stack([-action, action]))[1][1] == pytest.approx(single.step(action)[1], abs=1e-5)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda label: label, "asks for 'label'; a reward may ask for probability"),
        (lambda probability: probability[:1], r"returned shape \(1,\); return a number for each of 3"),
        (lambda probability: probability / 0, "values that are not finite"),
    ],
)
def test_what_is_no_reward_is_named(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _rewards(reward=function)


def test_names_are_checked() -> None:
    with pytest.raises(ValueError, match="'contrastive'"):
        gymnasium.make(ID, reward="contrastiv")
    with pytest.raises(ValueError, match="asks for 'labels'"):
        register_reward("mine", lambda labels: labels)
    assert "mine" not in REWARDS
    with pytest.raises(ValueError, match="register_reward"):
        Stage2Spec(env_steps=1, episode=EpisodeSpec(reward=lambda probability: probability))
