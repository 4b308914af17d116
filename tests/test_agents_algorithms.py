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
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.algorithms.make_agent import as_sb3, make_agent
from agents.algorithms.registry import AGENTS, AgentRecipe
from agents.algorithms.sb3_vec_env import SB3VecEnv
from agents.algorithms.stage2 import train_agent
from agents.evaluation.rollout import evaluate
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.exploration import set_std
from agents.policies.weights import load_policy, save_policy
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.glimpse import Glimpse, View
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task
from gfnet_env.actions import to_location
from gfnet_env.observation import DEFAULT_OBSERVATION, observe

NAMES = tuple(AGENTS)


def small_agent(name: str, env: Any, seed: int = 0, **overrides: Any) -> BaseAlgorithm:
    recipe = AGENTS[name]
    options: dict[str, Any] = {"n_delta": 2, "n_top": 1, "n_eval_episodes": 4}
    if recipe.rollout:
        options = {"n_steps": 3, **({"batch_size": 12} if recipe.batches else {})}
    elif recipe.updates_per_step:
        options = {"learning_starts": 8, "buffer_size": 64, "batch_size": 8, "gradient_steps": 1}
    units = {"extractor": {"conv_channels": 4, "units": 16, "attention_maps": 2}}
    return make_agent(name, env, seed=seed, policy_kwargs=units, **{**options, **overrides})


def _env(classifier: FrozenClassifier, source: ArrayImages, num_envs: int = 4) -> GlanceFocusVectorEnv:
    return GlanceFocusVectorEnv(Task(source, classifier), EpisodeSpec(), num_envs=num_envs, autoreset_mode="SAME_STEP")


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_learning_curve_and_weights(
    name: str, classifier: FrozenClassifier, scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.algorithms.stage2._STEPS_BETWEEN_REPORTS", 24)
    curves: list[list[tuple[int, dict[str, float]]]] = [[], []]
    weights = []
    for number, curve in enumerate(curves):
        torch.manual_seed(number)  # whatever happened before
        agent = small_agent(name, _env(classifier, scenes, num_envs=8), seed=5)
        train_agent(
            agent,
            96,
            seed=5,
            action_std_schedule=(0.2, 0.1),
            on_rollout=lambda done, total, figures, curve=curve: curve.append((done, figures)),  # type: ignore[misc]  # binds the loop variable
        )
        weights.append(agent.policy.state_dict())

    assert len(curves[0]) >= 2 and curves[0] == curves[1]
    figures = curves[0][-1][1]
    assert "reward" in figures and figures["looks"] == 3  # by then episodes have ended
    assert ("explained_variance" in figures) == issubclass(AGENTS[name].algorithm, OnPolicyAlgorithm)  # type: ignore[arg-type]  # classes all
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_looks_at_the_same_places(
    name: str, classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    env = _env(classifier, scenes)
    agent = small_agent(name, env)
    agent.learn(24)
    wrapped = as_sb3(env, AGENTS[name].form)
    expected = agent.predict(wrapped.reset(), deterministic=True)[0]
    view = env.dynamics.view()
    location, state = DeterministicPolicy(agent)(view)

    agent.save(tmp_path / "agent.zip")
    save_policy(tmp_path / "policy.safetensors", agent)
    by_sb3: Any = type(agent).load(tmp_path / "agent.zip")
    by_us = load_policy(tmp_path / "policy.safetensors", small_agent(name, env, seed=9))

    for loaded in (by_sb3, by_us):
        found, _ = DeterministicPolicy(loaded)(view)
        assert torch.allclose(found, location, atol=1e-6)
    if isinstance(agent.action_space, spaces.Box):
        assert torch.allclose(location, to_location(torch.from_numpy(expected)), atol=1e-5)
    assert (state is not None) == (name in ("ppo_gru", "recurrent_ppo"))
    assert DeterministicPolicy(agent).multiply_adds > 10_000


@pytest.mark.parametrize("name", NAMES)
def test_works_in_a_single_environment(name: str) -> None:
    env = gymnasium.make("GFNet-SyntheticSigns-v0", num_scenes=10, scenes=SMALL_SCENES, num_glimpses=3)

    agent = small_agent(name, env, **({"n_steps": 12} if AGENTS[name].rollout else {}))
    agent.learn(24)

    assert agent.num_timesteps >= 24


def test_recurrent_states_are_carried_row_by_row(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    agent = small_agent("recurrent_ppo", _env(classifier, scenes))
    policy = DeterministicPolicy(agent)
    view = View.first(classifier.glance(scenes.images[:4]), scenes.images[:4], 4)
    third = View.first(Glimpse(*(part[2:3] for part in view.glimpse)), scenes.images[2:3], 4)

    first, state = policy(view)
    second, _ = policy(view, state)
    assert state is not None
    one_row, _ = policy(third, state[2:3])

    assert not torch.allclose(first, second)
    assert torch.allclose(one_row, second[2:3], atol=1e-6)


def test_your_own_algorithm_is_one_entry(
    classifier: FrozenClassifier, scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stable_baselines3 import PPO

    class Mine(PPO):
        pass

    monkeypatch.setitem(AGENTS, "mine", AgentRecipe(Mine, "MultiInputPolicy", {"gamma": 0.7, "n_steps": 3}))
    agent = make_agent("mine", _env(classifier, scenes), batch_size=12, policy_kwargs={"net_arch": [8]})
    agent.learn(12)

    record = evaluate(classifier, scenes, DeterministicPolicy(agent))

    assert isinstance(agent, Mine)
    view = View.first(classifier.glance(scenes.images), scenes.images, 4)
    observation = {key: value.numpy() for key, value in observe(view, DEFAULT_OBSERVATION).items()}
    action, _ = agent.predict(observation, deterministic=True)
    assert np.allclose(record.location[:, 0], (action + 1) / 2, atol=1e-5)


def test_forms_can_not_be_made_of_an_sb3_environment(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    with pytest.raises(ValueError, match="needs the environment in 'grid' form, and a VecEnv can't be converted"):
        make_agent("dqn", SB3VecEnv(_env(classifier, scenes)))


def test_action_noise_can_be_lowered(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    agent: Any = small_agent("td3", _env(classifier, scenes))
    agent.learn(4)

    set_std(agent, 0.05)

    assert all(np.allclose(noise._sigma, 0.1) for noise in agent.action_noise.noises)


def test_sb3_callbacks_and_tensorboard(classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path) -> None:
    agent = small_agent("ppo", _env(classifier, scenes), tensorboard_log=str(tmp_path / "tb"))
    callback = EvalCallback(
        as_sb3(_env(classifier, scenes)), n_eval_episodes=4, eval_freq=3, best_model_save_path=str(tmp_path), verbose=0
    )
    agent.learn(24, callback=callback)
    agent.set_logger(configure(str(tmp_path / "csv"), ["csv"]))
    agent.learn(12)
    agent.logger.close()

    assert (tmp_path / "best_model.zip").is_file()
    assert "rollout/ep_rew_mean" in (tmp_path / "csv" / "progress.csv").read_text().splitlines()[0]
    events = EventAccumulator(str(next((tmp_path / "tb").iterdir()))).Reload()
    assert {"rollout/ep_rew_mean", "eval/mean_reward", "train/loss"} <= set(events.Tags()["scalars"])


def test_observations_normalised_by_sb3_are_normalised_in_evaluation(
    classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    venv = VecNormalize(as_sb3(_env(classifier, scenes)), norm_reward=False)
    agent = small_agent("ppo", venv)
    agent.learn(24)
    venv.training = False
    observation = venv.reset()
    view = View.first(classifier.glance(scenes.images[:4]), scenes.images[:4], 4)
    raw = {key: value.numpy() for key, value in observe(view, DEFAULT_OBSERVATION).items()}

    location, _ = DeterministicPolicy(agent)(view)

    expected = agent.predict(venv.normalize_obs(raw), deterministic=True)[0]  # type: ignore[arg-type]  # Dict observations
    assert isinstance(observation, dict)
    assert torch.allclose(location, to_location(torch.from_numpy(expected)), atol=1e-6)
    assert not torch.allclose(
        location, to_location(torch.from_numpy(agent.predict(raw, deterministic=True)[0])), atol=1e-4
    )


def test_flat_observations_may_be_normalised_too(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    venv = VecNormalize(as_sb3(_env(classifier, scenes), "flat"), norm_reward=False)
    agent = small_agent("crossq", venv)
    agent.learn(24)
    venv.training = False
    view = View.first(classifier.glance(scenes.images[:4]), scenes.images[:4], 4)
    seen = observe(view, sorted(DEFAULT_OBSERVATION))
    raw = torch.cat([part.flatten(1) for part in seen.values()], dim=1).numpy()

    location, _ = DeterministicPolicy(agent)(view)

    expected = agent.predict(venv.normalize_obs(raw), deterministic=True)[0]  # type: ignore[arg-type]  # flat observations
    assert torch.allclose(location, to_location(torch.from_numpy(expected)), atol=1e-6)


def test_weights_alone_are_not_written_of_agents_that_need_more(
    classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    agent = small_agent("ppo", VecNormalize(as_sb3(_env(classifier, scenes)), norm_reward=False))

    with pytest.raises(ValueError, match="observations that a VecNormalize has normalised"):
        save_policy(tmp_path / "policy.safetensors", agent)

    assert not list(tmp_path.iterdir())
    save_policy(
        tmp_path / "policy.safetensors",
        small_agent("ppo", VecNormalize(as_sb3(_env(classifier, scenes)), norm_obs=False)),
    )


def test_places_are_not_rounded_by_mixed_precision(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    policy = DeterministicPolicy(small_agent("ppo_gru", _env(classifier, scenes)))
    view = View.first(classifier.glance(scenes.images[:4]), scenes.images[:4], 4)
    expected, _ = policy(view)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, state = policy(view)

    assert found.dtype == torch.float32 and state is not None and state.dtype == torch.float32
    assert torch.equal(found, expected)
