"""Agents that must find the only good place, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from agents.algorithms.make_agent import make_agent
from agents.algorithms.registry import AGENTS
from agents.algorithms.stage2 import train_agent
from agents.evaluation.metrics import pointing_game
from agents.evaluation.rollout import evaluate
from agents.policies.deterministic import DeterministicPolicy
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task

MakeClassifier = Callable[..., FrozenClassifier]
SMALL_UNITS = {"extractor": {"conv_channels": 4, "units": 16}}
ON_POLICY = [name for name, recipe in AGENTS.items() if recipe.rollout]
_OFTEN = {"learning_starts": 512, "gradient_steps": 32, "batch_size": 64}
FIND: dict[str, tuple[dict[str, Any], int, int]] = {  # options that find the good place soon, environments and steps
    **{name: ({"n_steps": 2, "batch_size": 512, "learning_rate": 5e-3}, 256, 512 * 80) for name in ON_POLICY},
    "ppo_gru": ({"n_steps": 2, "batch_size": 256, "learning_rate": 5e-3}, 128, 256 * 50),
    "a2c": ({"n_steps": 2, "learning_rate": 2e-3}, 256, 512 * 120),
    **dict.fromkeys(("sac", "td3", "ddpg", "tqc", "crossq"), (_OFTEN, 64, 3000)),
    "td3": ({**_OFTEN, "learning_rate": 1e-3}, 64, 3000),
    "dqn": ({**_OFTEN, "target_update_interval": 256}, 64, 3000),
    "differentiable_crop": ({"learning_rate": 5e-3}, 1, 3000),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "ppo_gru" else [pytest.mark.slow]) for name in AGENTS]
)
def test_agents_learn_where_the_one_good_place_is(
    name: str, color_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    """Gray pictures with one red corner: a random patch touches it once in nine, the trained policy always."""
    classifier = color_classifier()
    options, num_envs, steps = FIND[name]
    task = Task(red_corner_images, classifier)
    env = GlanceFocusVectorEnv(task, EpisodeSpec(), num_envs=num_envs, autoreset_mode="SAME_STEP")
    agent = make_agent(name, env, seed=0, policy_kwargs=SMALL_UNITS, **options)

    train_agent(agent, steps, seed=0, action_std_schedule=None if "gradient_steps" in options else (0.3, 0.1))

    record = evaluate(classifier, red_corner_images, DeterministicPolicy(agent))
    assert (record.location[:, 0] > 0.9).all()
    assert pointing_game(record) == [1.0, 1.0]


@pytest.mark.parametrize("name", ["ppo", pytest.param("ppo_gru", marks=pytest.mark.slow)])
def test_agents_learn_when_to_stop(name: str, color_classifier: MakeClassifier) -> None:
    """Of gray pictures nothing is to be learnt; of half of them the bottom is red, which one glimpse tells."""
    images = torch.full((4, 3, 32, 32), 120, dtype=torch.uint8)
    images[2:, 0, 24:], images[2:, 1, 24:] = 255, 0
    source = ArrayImages(images, torch.zeros(4, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.int64), ("r", "g"))
    task = Task(source, color_classifier())
    episode = EpisodeSpec(reward="increment", step_cost=0.08, stop_action=True)
    env = GlanceFocusVectorEnv(task, episode, num_envs=64, autoreset_mode="SAME_STEP")
    options: dict[str, Any] = {"n_steps": 2, "batch_size": 128, "learning_rate": 5e-3, "policy_kwargs": SMALL_UNITS}
    agent = make_agent(name, env, seed=0, **options)

    train_agent(agent, 128 * 45, seed=0, action_std_schedule=(0.35, 0.1))

    taken = []
    for index in (0, 2):
        single = GlanceFocusEnv(task, episode)
        observation, info = single.reset(options={"index": index})
        state, finished, steps = None, False, 0
        while not finished:
            action, state = agent.predict(observation, state, np.array([steps == 0]), deterministic=True)  # type: ignore[arg-type]  # a Dict
            observation, _, finished, _, info = single.step(action)
            steps += not info["stopped"]
        taken.append((steps, info["stopped"]))
    assert taken == [(0, True), (1, True)]
    assert info["top_left_px"][0] >= 20  # at the bottom
