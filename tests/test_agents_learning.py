"""Agents: built, trained, saved; and one that must find the only good place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES
from stable_baselines3 import A2C, PPO, SAC, TD3
from stable_baselines3.common.evaluation import evaluate_policy

from agents.algorithms.make_agent import as_sb3, make_agent
from agents.algorithms.ppo_gru import PPOGRU
from agents.algorithms.registry import AGENTS
from agents.algorithms.stage2 import train_agent
from agents.evaluation.metrics import pointing_game
from agents.evaluation.rollout import evaluate
from agents.policies.actor_critic import GlimpseActorCriticPolicy
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.gru import GlimpseGRUPolicy
from agents.policies.weights import load_policy, save_policy
from classifiers.checkpoints import CheckpointError
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task

MakeClassifier = Callable[..., FrozenClassifier]
SMALL_UNITS = {"extractor": {"conv_channels": 4, "units": 16}}
ON_POLICY = [name for name, recipe in AGENTS.items() if recipe.rollout]
_OFTEN = {"learning_starts": 512, "gradient_steps": 32, "batch_size": 64}
FIND: dict[str, tuple[dict[str, Any], int, int]] = {  # options that find the good place soon, environments and steps
    **{name: ({"n_steps": 2, "batch_size": 512, "learning_rate": 5e-3}, 256, 512 * 80) for name in ON_POLICY},
    "a2c": ({"n_steps": 2, "learning_rate": 2e-3}, 256, 512 * 120),
    **dict.fromkeys(("sac", "td3", "ddpg", "tqc", "crossq"), (_OFTEN, 64, 3000)),
    "td3": ({**_OFTEN, "learning_rate": 1e-3}, 64, 3000),
    "dqn": ({**_OFTEN, "target_update_interval": 256}, 64, 3000),
    "ars": ({"n_eval_episodes": 64, "delta_std": 0.2, "learning_rate": 0.2}, 64, 64 * 2 * 16 * 20),
}


def _env(classifier: FrozenClassifier, source: ArrayImages, num_envs: int = 8) -> GlanceFocusVectorEnv:
    return GlanceFocusVectorEnv(Task(source, classifier), EpisodeSpec(), num_envs=num_envs, autoreset_mode="SAME_STEP")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name.startswith("ppo") else [pytest.mark.slow]) for name in AGENTS]
)
def test_agents_learn_where_the_one_good_place_is(
    name: str, colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    """Grey pictures with one red corner: a random patch touches it once in nine, the trained policy always."""
    classifier = colour_classifier()
    options, num_envs, steps = FIND[name]
    env = _env(classifier, red_corner_images, num_envs=num_envs)
    agent = make_agent(name, env, seed=0, policy_kwargs=SMALL_UNITS, **options)

    train_agent(agent, steps, seed=0, action_std_schedule=(0.3, 0.1) if name in ON_POLICY else None)

    record = evaluate(classifier, red_corner_images, DeterministicPolicy(agent))
    assert (record.location[:, 0] > 0.9).all()
    assert pointing_game(record) == [1.0, 1.0]


@pytest.mark.parametrize("name", ON_POLICY)
def test_cut_off_training_ends_with_the_same_policy(
    name: str, classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.algorithms.stage2._SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def new_agent() -> Any:
        options = {} if name == "a2c" else {"batch_size": 24}
        return make_agent(name, _env(classifier, scenes), seed=3, n_steps=3, policy_kwargs=SMALL_UNITS, **options)

    undisturbed = new_agent()
    train_agent(undisturbed, 24 * 5, seed=3)

    class Killed(Exception):
        pass

    def kill_after_third_rollout(done: int, total: int, figures: dict[str, float]) -> None:
        if done == 24 * 3:
            raise Killed

    checkpoint = tmp_path / "training.pt"
    with pytest.raises(Killed):
        train_agent(new_agent(), 24 * 5, seed=3, checkpoint=checkpoint, on_rollout=kill_after_third_rollout)
    torch.manual_seed(123)
    resumed = new_agent()
    train_agent(resumed, 24 * 5, seed=3, checkpoint=checkpoint)

    for key, value in undisturbed.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[key]), key


def test_first_policy_looks_at_the_centre(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    agent = make_agent("ppo", _env(classifier, scenes), seed=0)
    policy = agent.policy
    assert isinstance(policy, GlimpseActorCriticPolicy)

    observation = agent.get_env().reset()  # type: ignore[union-attr]  # it has one
    observation = {key: value[0] for key, value in observation.items()}  # type: ignore[union-attr]  # Dict observations
    actions = [agent.predict(observation)[0] for _ in range(300)]

    assert np.abs(agent.predict(observation, deterministic=True)[0]).max() < 0.2
    assert np.std(actions, axis=0) == pytest.approx([0.3, 0.3], abs=0.05)  # 0.15 in the paper's units
    assert not policy.log_std.requires_grad


def test_standard_deviation_can_be_lowered(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    agent = make_agent("ppo", _env(classifier, scenes), seed=0, n_steps=3, batch_size=24, policy_kwargs=SMALL_UNITS)
    assert isinstance(agent.policy, GlimpseActorCriticPolicy)

    train_agent(agent, 24 * 4, seed=0, action_std_schedule=(0.2, 0.05))

    last_rollout = 0.2 * (0.05 / 0.2) ** (3 / 4)
    assert agent.policy.log_std.exp().tolist() == pytest.approx([2 * last_rollout] * 2, rel=1e-4)


def test_squashed_mean_never_leaves_the_space(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    agent = make_agent("ppo", _env(classifier, scenes), seed=0)
    assert isinstance(agent.policy, GlimpseActorCriticPolicy)
    shapes = {key: space.shape or () for key, space in agent.policy.observation_space.items()}  # type: ignore[attr-defined]  # a Dict space
    observation = {key: 1e4 * torch.randn(5, *shape) for key, shape in shapes.items()}

    assert agent.policy.mean_action(observation)[0].abs().max() <= 1.0


@pytest.mark.parametrize("algorithm", [PPO, A2C, SAC, TD3])
def test_plain_sb3_needs_no_import_of_ours_but_the_environment(algorithm: Any) -> None:
    env = gymnasium.make("GFNet-SyntheticSigns-v0", num_scenes=10, scenes=SMALL_SCENES)
    small = {"net_arch": [8]}
    options = {PPO: {"n_steps": 8, "batch_size": 8}, A2C: {}}.get(algorithm, {"learning_starts": 6, "buffer_size": 50})

    agent = algorithm("MultiInputPolicy", env, policy_kwargs=small, seed=0, **options)
    agent.learn(16)

    action, _ = agent.predict(env.reset(seed=0)[0], deterministic=True)
    assert action in env.action_space


def test_sb3_tools_work_on_our_environment(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    """Increments of Eq. (4) sum to the gain in the label's probability, which our evaluation gives for one image."""
    one = ArrayImages(scenes.images[:1], scenes.labels[:1], scenes.boxes[:1], scenes.class_names)
    env = as_sb3(
        GlanceFocusVectorEnv(
            Task(one, classifier), EpisodeSpec(reward="increment"), num_envs=4, autoreset_mode="SAME_STEP"
        )
    )
    agent = make_agent("ppo", env, n_steps=3, batch_size=12, policy_kwargs=SMALL_UNITS, seed=0)
    agent.learn(24)

    mean, std = evaluate_policy(agent, env, n_eval_episodes=8)

    probability = evaluate(classifier, one, DeterministicPolicy(agent)).label_probability[0]
    assert mean == pytest.approx(probability[-1] - probability[0], abs=1e-5)
    assert std == pytest.approx(0.0, abs=1e-6)
    assert [episode["l"] for episode in agent.ep_info_buffer or []] == [3] * 8


def test_policies_of_another_shape_are_refused(
    classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    env = _env(classifier, scenes, num_envs=2)
    options: dict[str, Any] = {"n_steps": 3, "batch_size": 6}
    save_policy(tmp_path / "policy.safetensors", make_agent("ppo", env, policy_kwargs=SMALL_UNITS, **options))

    with pytest.raises(CheckpointError, match=r"policy\.safetensors"):
        load_policy(tmp_path / "policy.safetensors", make_agent("ppo", env, **options))
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_policy(tmp_path / "none.safetensors", make_agent("ppo", env, **options))


def test_gru_state_is_carried_and_forgotten(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = _env(classifier, scenes, num_envs=2)
    agent = make_agent("ppo_gru", env, n_steps=3, batch_size=6, seed=0)
    assert isinstance(agent, PPOGRU) and isinstance(agent.policy, GlimpseGRUPolicy)
    observation = env.reset(seed=0)[0]

    first, state = agent.predict(observation, deterministic=True)
    second, state = agent.predict(observation, state, np.array([False, False]), deterministic=True)
    mixed, _ = agent.predict(observation, state, np.array([True, False]), deterministic=True)

    assert not np.allclose(first, second)
    assert np.allclose(mixed[0], first[0], atol=1e-6)
    assert not np.allclose(mixed[1], first[1])


def test_gru_training_reproduces_the_rollouts_probabilities(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    """Unrolled again over the buffer before any update, the ratio of Eq. (13) is one: the states match."""
    env = _env(classifier, scenes, num_envs=4)
    agent = make_agent("ppo_gru", env, n_steps=6, batch_size=24, learning_rate=0.0, n_epochs=1, seed=0)
    assert isinstance(agent, PPOGRU)
    agent.learn(24)

    losses = agent._losses(agent.rollout_buffer, np.arange(4), 0.2)  # type: ignore[arg-type]  # a dict buffer
    buffer = agent.rollout_buffer
    advantages = buffer.advantages
    normalised = (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)

    assert losses["policy_gradient_loss"].item() == pytest.approx(-float(normalised.mean()), abs=1e-4)
    losses["loss"].backward()
    assert agent.policy.gru.weight_hh.grad is not None and agent.policy.gru.weight_hh.grad.abs().sum() > 0


def test_policy_cost_is_counted_on_the_network(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = _env(classifier, scenes, num_envs=2)
    channels, height, width = classifier.feature_shape()
    history = 3 * 2 + 4  # three locations, four glimpses
    flat = 32 * height * width + classifier.hidden_size + history
    attention = 8 * height * width * (channels + 2)
    vector = 256 + 2 * 8 + 4
    extractor = channels * 32 * height * width + flat * 256 + attention

    assert DeterministicPolicy(make_agent("ppo", env)).multiply_adds == extractor + vector * 2
    memory = vector - 4  # the one-hot of the step stands beside it
    gru = 3 * memory * (vector + memory)
    assert DeterministicPolicy(make_agent("ppo_gru", env)).multiply_adds == extractor + gru + vector * 2


def test_unknown_agents_are_refused() -> None:
    with pytest.raises(ValueError, match="agent='pppo' is unknown; did you mean 'ppo'"):
        make_agent("pppo", "GFNet-SyntheticSigns-v0")


@pytest.mark.parametrize(("num_envs", "n_steps"), [(256, 3), (8, 96), (1000, 3)])
def test_rollouts_are_whole_episodes_whatever_the_number_of_environments(num_envs: int, n_steps: int) -> None:
    from agents.algorithms.make_agent import _whole_episodes

    assert _whole_episodes(focus_steps=3, num_envs=num_envs, rollout=768) == n_steps


def test_agents_fit_themselves_to_a_single_environment() -> None:
    env = gymnasium.make("GFNet-SyntheticSigns-v0", num_scenes=10, scenes=SMALL_SCENES, num_glimpses=3)

    agent = make_agent("ppo", env)

    assert (agent.n_steps, agent.batch_size) == (768, 256)  # type: ignore[attr-defined]  # PPO
