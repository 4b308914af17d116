"""Every algorithm by its name: built, repeatable, saved, and used like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES
from gymnasium import spaces
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.algorithms.make_agent import as_sb3, make_agent
from agents.algorithms.registry import AGENTS
from agents.algorithms.sb3_vec_env import SB3VecEnv
from agents.algorithms.stage2 import train_agent
from agents.evaluation.rollout import evaluate
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.weights import load_policy, save_policy
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task

NAMES = tuple(AGENTS)


def small_agent(name: str, env: Any, seed: int = 0, **overrides: Any) -> BaseAlgorithm:
    """An agent whose rollouts, batches and networks are as small as can be."""
    recipe = AGENTS[name]
    options: dict[str, Any] = {}
    if recipe.rollout:
        options = {"n_steps": 3, **({"batch_size": 12} if recipe.batches else {})}
    elif recipe.updates_per_step:
        options = {"learning_starts": 8, "buffer_size": 64, "batch_size": 8, "gradient_steps": 1}
    elif name == "differentiable_crop":
        options = {"batch_size": 4}
    if name == "trpo":
        options["n_critic_updates"] = 2
    units: dict[str, Any] = {"extractor": {"conv_channels": 4, "units": 16, "attention_maps": 2}}
    if name == "recurrent_ppo":
        units["lstm_hidden_size"] = 16
    return make_agent(name, env, seed=seed, policy_kwargs=units, **{**options, **overrides})


def _env(
    classifier: FrozenClassifier,
    source: ArrayImages,
    num_envs: int = 4,
    reward: str = "contrastive",
    **rules: Any,
) -> GlanceFocusVectorEnv:
    episode = EpisodeSpec(reward=reward, **rules)
    return GlanceFocusVectorEnv(Task(source, classifier), episode, num_envs=num_envs, autoreset_mode="SAME_STEP")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_agent_which_is_saved_whole(
    name: str, classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.algorithms.stage2._STEPS_BETWEEN_REPORTS", 16)
    curves: list[list[tuple[int, dict[str, float]]]] = [[], []]
    agents = []
    env = _env(classifier, scenes)
    for number, curve in enumerate(curves):
        torch.manual_seed(number)  # whatever happened before
        agent = small_agent(name, env, seed=5)
        train_agent(
            agent,
            36,
            seed=5,
            action_std_schedule=(0.2, 0.1),
            on_rollout=lambda done, total, figures, curve=curve: curve.append((done, figures)),  # type: ignore[misc]  # binds the loop variable
        )
        agents.append(agent)

    assert len(curves[0]) >= 2 and curves[0] == curves[1]
    figures = curves[0][-1][1]
    assert "reward" in figures and figures["looks"] == 3  # by then episodes have ended
    assert ("explained_variance" in figures) == issubclass(AGENTS[name].algorithm, OnPolicyAlgorithm)  # type: ignore[arg-type]  # classes all
    weights = [each.policy.state_dict() for each in agents]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())

    expected = agent.predict(as_sb3(env, AGENTS[name].form).reset(), deterministic=True)[0]
    location, state = DeterministicPolicy(agent)(env.dynamics.view())
    agent.save(tmp_path / "agent.zip")
    save_policy(tmp_path / "policy.safetensors", agent)
    by_sb3: Any = type(agent).load(tmp_path / "agent.zip")
    by_us = load_policy(tmp_path / "policy.safetensors", small_agent(name, env, seed=9))
    for loaded in (by_sb3, by_us):
        assert torch.allclose(DeterministicPolicy(loaded)(env.dynamics.view())[0], location, atol=1e-6)
    if isinstance(agent.action_space, spaces.Box):
        assert np.allclose(location, (expected + 1) / 2, atol=1e-5)
    assert (state is not None) == (name in ("ppo_gru", "recurrent_ppo"))
    assert DeterministicPolicy(agent).multiply_adds > 10_000


@pytest.mark.parametrize("name", NAMES)
def test_agents_decide_on_stopping_and_size_or_say_that_they_can_not(
    name: str, classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    env = _env(
        classifier.with_spec(patch_sizes=(32, 48)), scenes, reward="increment", stop_action=True, size_action=True
    )
    if AGENTS[name].form == "grid" or name == "differentiable_crop":
        with pytest.raises(ValueError, match="actions are"):
            small_agent(name, env)
        return
    agent = small_agent(name, env)

    train_agent(agent, 48, seed=0)

    actions = agent.predict(as_sb3(env, AGENTS[name].form).reset(), deterministic=True)[0]
    assert agent.num_timesteps >= 48 and actions.shape == (4, 4)
    assert DeterministicPolicy(agent)(env.dynamics.view())[0].shape == (4, 2)


@pytest.mark.parametrize("name", ["ppo", "ppo_gru", "ppo_grid", "sac", "crossq", "dqn"])
def test_works_in_a_single_environment(name: str) -> None:
    env = gymnasium.make("GFNet-SyntheticSigns-v0", num_scenes=10, scenes=SMALL_SCENES, num_glimpses=3)

    agent = small_agent(name, env, **({"n_steps": 12} if AGENTS[name].rollout else {}))
    agent.learn(12)

    assert agent.num_timesteps >= 12


@pytest.mark.parametrize("algorithm", [PPO, A2C, SAC])
def test_plain_sb3_needs_no_import_of_ours_but_the_environment(algorithm: Any) -> None:
    env = gymnasium.make("GFNet-SyntheticSigns-v0", num_scenes=10, scenes=SMALL_SCENES)
    options = {PPO: {"n_steps": 8, "batch_size": 8}, A2C: {}}.get(algorithm, {"learning_starts": 6, "buffer_size": 50})

    agent = algorithm("MultiInputPolicy", env, policy_kwargs={"net_arch": [8]}, seed=0, **options)
    agent.learn(8)

    action, _ = agent.predict(env.reset(seed=0)[0], deterministic=True)
    assert action in env.action_space


def test_unknown_names_and_forms_that_can_not_be_made_are_refused(
    classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    with pytest.raises(ValueError, match=r"'pppo'.*'ppo'"):
        make_agent("pppo", "GFNet-SyntheticSigns-v0")
    with pytest.raises(ValueError, match=r"'gama'.*'gamma'"):
        make_agent("ppo", _env(classifier, scenes), gama=0.5)
    with pytest.raises(ValueError, match="GridAction"):
        make_agent("dqn", SB3VecEnv(_env(classifier, scenes)))


@pytest.mark.parametrize(("num_envs", "n_steps", "batch_size"), [(24, 33, 264), (1, 768, 256), (1000, 3, 1000)])
def test_rollouts_are_whole_episodes_whatever_the_number_of_environments(
    num_envs: int, n_steps: int, batch_size: int, color_classifier: Any, red_corner_images: ArrayImages
) -> None:
    env = _env(color_classifier(num_glimpses=4), red_corner_images, num_envs)

    agent: Any = make_agent("ppo", env, policy_kwargs={"extractor": {"units": 4}})

    assert (agent.n_steps, agent.batch_size) == (n_steps, batch_size)


def test_evaluation_by_sb3_agrees_with_ours(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    """Increments of Eq. (4) sum to the gain in the label's probability, which our evaluation gives for one image."""
    one = ArrayImages(scenes.images[:1], scenes.labels[:1], scenes.boxes[:1], scenes.class_names)
    env = as_sb3(_env(classifier, one, reward="increment"))
    agent = small_agent("ppo", env)
    agent.learn(24)

    mean, std = evaluate_policy(agent, env, n_eval_episodes=8)  # type: ignore[arg-type]  # on-policy

    probability = evaluate(classifier, one, DeterministicPolicy(agent)).label_probability[0]
    assert mean == pytest.approx(probability[-1] - probability[0], abs=1e-5)
    assert std == pytest.approx(0.0, abs=1e-6)
    assert [episode["l"] for episode in agent.ep_info_buffer or []] == [3] * 8
