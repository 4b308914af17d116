"""Policy networks: what they read, where they look untrained, how they explore, what they cost; agents as policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import with_rules
from gymnasium import spaces
from gymnasium.wrappers import DiscretizeAction, RescaleAction
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from agents.algorithms.make_agent import as_sb3, make_agent
from agents.algorithms.ppo_gru import PPOGRU
from agents.algorithms.stage2 import train_agent
from agents.evaluation.rollout import evaluate
from agents.policies.actor_critic import (
    GlimpseActorCriticPolicy,
    PenalizedTanh,
    initial_actions,
    start_at_initial_actions,
)
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.exploration import set_std
from agents.policies.extractor import GlimpseExtractor
from agents.policies.grid import PlaceScores
from agents.policies.weights import load_policy, save_policy
from classifiers.checkpoints import CheckpointError
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.glimpse import Glimpse, View
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, GridAction, Task
from gfnet_env.observation import DEFAULT_OBSERVATION, observe

SMALL_UNITS = {"extractor": {"conv_channels": 4, "units": 16}}
VARIANTS: tuple[dict[str, Any], ...] = (
    {"stop_action": True, "step_cost": 0.05, "reward": "increment"},
    {"observe": ("features",)},
    {"observe": ("hidden",), "stop_action": True},
    {"patch_size": 32, "glance_size": 64},
)


def _env(classifier: FrozenClassifier, source: ArrayImages, num_envs: int = 4, **rules: Any) -> GlanceFocusVectorEnv:
    task, episode = with_rules(source, classifier, rules)
    return GlanceFocusVectorEnv(task, episode, num_envs=num_envs, autoreset_mode="SAME_STEP")


def _first_view(classifier: FrozenClassifier, scenes: ArrayImages) -> View:
    return View.first(classifier.glance(scenes.images[:4]), scenes.images[:4], 4)


# --- untrained policies ----------------------------------------------------------------------------------------------


def test_untrained_policies_look_at_the_center_then_elsewhere() -> None:
    actions = initial_actions(6)
    assert actions[0].tolist() == [0.0, 0.0]
    assert actions.abs().max() <= 0.6
    assert torch.pdist(actions).min() > 0.2
    assert torch.equal(initial_actions(3), actions[:3])

    last = nn.Linear(5 + 4, 3)
    start_at_initial_actions(last, num_steps=4)
    means = torch.tanh(last(torch.cat([torch.zeros(4, 5), torch.eye(4)], dim=1)))
    assert torch.allclose(means[:3, :2], actions[:3], atol=1e-6)


def test_the_penalty_on_saturation_takes_an_empty_batch() -> None:
    nothing = torch.zeros(0, 2, requires_grad=True)

    PenalizedTanh()(nothing).sum().backward()

    assert nothing.grad is not None and nothing.grad.shape == (0, 2)


def test_tanh_penalizes_saturation_in_training_alone() -> None:
    inputs = torch.tensor([[0.5, 4.0], [-1.4, -4.0]], requires_grad=True)
    tanh = PenalizedTanh()
    assert torch.equal(tanh(inputs), torch.tanh(inputs))

    tanh(inputs).sum().backward()
    trained, inputs.grad = inputs.grad, None
    tanh.eval()
    tanh(inputs).sum().backward()

    assert trained is not None and inputs.grad is not None
    difference = trained - inputs.grad
    assert difference[:, 0].tolist() == [0.0, 0.0]
    assert difference[:, 1].tolist() == pytest.approx([0.125, -0.125])  # 0.1 (4 - 1.5) / 2


@pytest.mark.parametrize("penalty", [0.1, 0.0])
def test_deterministic_actors_are_pulled_out_of_saturation(
    penalty: float, classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    options = {**SMALL_UNITS, "saturation_penalty": penalty}
    agent: Any = make_agent("td3", _env(classifier, scenes), buffer_size=8, policy_kwargs=options)
    actor = agent.policy.actor.train()
    last = actor.mu[-2]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([4.0, -4.0]))

    seen = observe(_first_view(classifier, scenes), DEFAULT_OBSERVATION)
    observation = {key: part.clone() for key, part in seen.items()}  # no longer tensors of inference mode
    (0.0 * actor(observation).sum()).backward()

    assert last.bias.grad.tolist() == pytest.approx([2.5 * penalty, -2.5 * penalty])


def test_trpo_is_not_pushed_into_saturation(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    """It follows its gradient uphill, so a penalty in it would push, and bend the curvature below 0."""
    agent: Any = make_agent("trpo", _env(classifier, scenes), n_steps=3, batch_size=12, policy_kwargs=SMALL_UNITS)
    last = agent.policy.action_net[0]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([4.0, -4.0]))

    agent.learn(48)

    assert last.bias.isfinite().all() and last.bias.abs().max() < 4.2


def test_exploration_starts_around_the_center_and_rarely_stops(
    classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    env = _env(classifier, scenes, num_envs=24, stop_action=True)
    agent = make_agent("ppo", env, seed=0, policy_kwargs=SMALL_UNITS)
    observation, _ = env.reset(seed=0)

    mean = agent.predict(observation, deterministic=True)[0]
    actions = np.stack([agent.predict(observation)[0] for _ in range(40)])

    assert np.abs(mean[:, :2]).max() < 0.2 and (mean[:, 2] < 0).all()
    assert (actions - mean)[..., :2].std(axis=(0, 1)) == pytest.approx([0.3, 0.3], abs=0.05)  # 0.15 in [0, 1] units
    assert 0.01 < (actions[..., 2] > 0).mean() < 0.08


def test_the_standard_deviation_follows_its_schedule(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = _env(classifier, scenes, stop_action=True)
    agent = make_agent("ppo", env, seed=0, n_steps=3, batch_size=12, policy_kwargs=SMALL_UNITS)
    assert isinstance(agent.policy, GlimpseActorCriticPolicy)

    train_agent(agent, 12 * 4, seed=0, action_std_schedule=(0.2, 0.05))

    last_rollout = 0.2 * (0.05 / 0.2) ** (3 / 4)
    assert agent.policy.log_std.exp().tolist() == pytest.approx([2 * last_rollout] * 2 + [0.5], rel=1e-4)
    noisy: Any = make_agent("td3", _env(classifier, scenes), policy_kwargs=SMALL_UNITS, learning_starts=4)
    noisy.learn(4)
    set_std(noisy, 0.05)
    assert all(np.allclose(noise._sigma, 0.1) for noise in noisy.action_noise.noises)


@pytest.mark.parametrize("attention_maps", [0, 3])
def test_reading_a_map_at_once_is_norm_convolution_and_attention(attention_maps: int) -> None:
    space = spaces.Dict({"features": spaces.Box(-9, 9, (6, 5, 4), np.float32)})
    extractor = GlimpseExtractor(space, conv_channels=2, units=3, attention_maps=attention_maps)
    norm = extractor.norms["features"]
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    maps = 3.0 * torch.randn(7, 6, 5, 4) + 1.0

    reduced, centers = extractor._read("features", maps)

    torch.testing.assert_close(reduced, extractor.reduce(norm(maps)))
    if extractor.attention is None:
        assert centers is None
    else:
        torch.testing.assert_close(centers, extractor.attention(norm(maps)))
    found = torch.autograd.grad(reduced.square().sum(), list(norm.parameters()))
    expected = torch.autograd.grad(extractor.reduce(norm(maps)).square().sum(), list(norm.parameters()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_costs_are_those_of_what_is_read(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    def cost(name: str = "ppo", policy_kwargs: dict[str, Any] | None = None, **rules: Any) -> int:
        return DeterministicPolicy(
            make_agent(name, _env(classifier, scenes, **rules), policy_kwargs=policy_kwargs)
        ).multiply_adds

    channels, height, width = classifier.feature_shape()
    history = 3 * 2 + 4  # three locations, four glimpses
    maps = channels * height * width * 4 + 4 * height * width * 16
    assert cost(policy_kwargs=SMALL_UNITS, observe=("hidden",)) == 16 * 16 + 16 * 2
    assert cost(policy_kwargs=SMALL_UNITS, observe=("features",)) == maps + 16 * 2
    assert cost(policy_kwargs=SMALL_UNITS, stop_action=True) == maps + (16 + history) * 16 + (16 + 4) * 3

    flat = 32 * height * width + classifier.hidden_size + history
    extractor = channels * 32 * height * width + flat * 256 + 8 * height * width * (channels + 2)
    vector = 256 + 2 * 8 + 4
    memory = vector - 4  # the one-hot of the step stands beside it
    assert cost() == extractor + vector * 2
    wide = {"extractor": {"attention_maps": 8}}
    assert cost("ppo_gru", wide) == extractor + 3 * memory * (vector + memory) + vector * 2
    with pytest.raises(ValueError, match="observation has hidden"):  # nothing to read
        cost(policy_kwargs={"extractor": "conv1x1_32"}, observe=("hidden",))


# --- agents as policies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rules"), [(name, rules) for rules in VARIANTS for name in ("ppo", "ppo_gru")], ids=str
)
def test_an_agent_and_its_policies_look_at_the_same_places(
    name: str, rules: dict[str, Any], classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    """In the environment, in an evaluation, the network alone, and the weights loaded into another agent."""
    env = _env(classifier, scenes, num_envs=24, **rules)
    networks = env.dynamics.classifier
    agent, other = (make_agent(name, env, seed=seed, n_steps=3, policy_kwargs=SMALL_UNITS) for seed in (0, 1))
    agent.learn(72)
    assert isinstance(agent.policy, GlimpseActorCriticPolicy)
    nn.init.normal_(agent.policy.action_net[0].weight, std=0.5)  # type: ignore[index]  # linear, then tanh
    save_policy(tmp_path / "policy.safetensors", agent)
    load_policy(tmp_path / "policy.safetensors", other)
    observation, _ = env.reset(options={"index": np.arange(24)})
    view = View.first(networks.glance(scenes.images), scenes.images, 4)

    actions, _ = agent.predict(observation, deterministic=True)

    assert actions in env.action_space
    expected = (actions[:, :2] + 1) / 2
    assert np.ptp(expected, axis=0).min() > 1e-4
    for each in (agent, other, agent.policy.eval()):
        assert np.allclose(DeterministicPolicy(each)(view)[0].numpy(), expected, atol=1e-5)
    record = evaluate(networks, scenes, DeterministicPolicy(agent))
    assert np.allclose(record.location[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_rescaled_actions_are_followed(algorithm: Any, classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    low, high = np.array([0.0, -3.0], np.float32), np.array([1.0, 5.0], np.float32)
    env = RescaleAction(GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec()), low, high)
    options = {"buffer_size": 10} if algorithm is SAC else {}
    agent = algorithm("MultiInputPolicy", env, policy_kwargs={"net_arch": [8]}, seed=3, **options)

    observation, info = env.reset(seed=0)
    action = agent.predict(observation, deterministic=True)[0]
    *_, after = env.step(action)
    images = scenes.images[info["index"], None]
    location, _ = DeterministicPolicy(agent)(View.first(classifier.glance(images), images, 4))

    assert np.allclose(location[0].numpy(), after["location"], atol=1e-5)


def test_wrappers_of_actions_are_followed(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = DiscretizeAction(GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec()), bins=9)
    agent = DQN("MultiInputPolicy", env, policy_kwargs={"net_arch": [8]}, buffer_size=10, seed=1)

    record = evaluate(classifier, scenes, agent, max_images=6)

    for image, location in zip(range(0, 24, 4), record.location, strict=True):
        observation, _ = env.reset(options={"index": image})
        for step in range(3):
            action = agent.predict(observation, deterministic=True)[0]
            observation, _, _, _, info = env.step(action)
            assert np.allclose(location[step], info["location"], atol=1e-5)


def test_actions_of_unknown_places_are_refused(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec())
    options: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 10}

    DeterministicPolicy(DQN("MultiInputPolicy", GridAction(env), **options).policy)
    with pytest.raises(ValueError, match="GridAction"):
        DeterministicPolicy(DQN("MultiInputPolicy", DiscretizeAction(env, bins=9), **options).policy)


def test_any_callable_from_observations_to_actions_is_evaluated(
    classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    def act(observation: dict[str, np.ndarray]) -> np.ndarray:
        assert set(observation) == set(DEFAULT_OBSERVATION)
        step = observation["progress"].argmax(axis=1)
        return np.stack([step / 2 - 1, -step / 2 + 1], axis=1)

    record = evaluate(classifier, scenes, act)

    assert record.location[:, :, 0].tolist() == [[0.0, 0.25, 0.5]] * 24
    assert record.location[:, :, 1].tolist() == [[1.0, 0.75, 0.5]] * 24
    with pytest.raises(ValueError, match="a int is no policy"):
        evaluate(classifier, scenes, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(24,\)"):
        evaluate(classifier, scenes, lambda seen: np.zeros(24))


@pytest.mark.parametrize("form", ["plain", "flat"])
def test_observations_normalized_by_sb3_are_normalized_in_evaluation(
    form: str, classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    venv = VecNormalize(as_sb3(_env(classifier, scenes), form), norm_reward=False)
    agent = PPO("MlpPolicy" if form == "flat" else "MultiInputPolicy", venv, n_steps=3, batch_size=12, seed=0)
    agent.learn(12)
    venv.training = False
    view = _first_view(classifier, scenes)
    raw: Any = {key: value.numpy() for key, value in observe(view, sorted(DEFAULT_OBSERVATION)).items()}
    if form == "flat":
        raw = np.concatenate([part.reshape(4, -1) for part in raw.values()], axis=1)

    location, _ = DeterministicPolicy(agent)(view)

    def predicted(observation: Any) -> np.ndarray:
        return (agent.predict(observation, deterministic=True)[0] + 1) / 2

    assert np.allclose(location, predicted(venv.normalize_obs(raw)), atol=1e-6)
    assert not np.allclose(location, predicted(raw), atol=1e-4)
    with pytest.raises(ValueError, match="VecNormalize"):  # weights alone would look elsewhere
        save_policy(tmp_path / "policy.safetensors", agent)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ppo_gru", "recurrent_ppo"])
def test_recurrent_states_are_carried_row_by_row(name: str, classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    agent = make_agent(name, _env(classifier, scenes), policy_kwargs=SMALL_UNITS, seed=0)
    policy = DeterministicPolicy(agent)
    view = _first_view(classifier, scenes)
    third = View.first(Glimpse(*(part[2:3] for part in view.glimpse)), scenes.images[2:3], 4)

    first, state = policy(view)
    second, _ = policy(view, state)
    assert state is not None
    one_row, _ = policy(third, state[2:3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again, _ = policy(view, state)

    assert not torch.allclose(first, second)
    assert torch.allclose(one_row, second[2:3], atol=1e-6)
    assert again.dtype == torch.float32 and torch.equal(again, second)  # not rounded by mixed precision


def test_the_gru_forgets_where_an_episode_starts(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = _env(classifier, scenes, num_envs=2)
    agent = make_agent("ppo_gru", env, n_steps=3, batch_size=6, seed=0)
    assert isinstance(agent, PPOGRU)
    observation = env.reset(seed=0)[0]

    first, state = agent.predict(observation, deterministic=True)
    second, state = agent.predict(observation, state, np.array([False, False]), deterministic=True)
    mixed, _ = agent.predict(observation, state, np.array([True, False]), deterministic=True)

    assert not np.allclose(first, second)
    assert np.allclose(mixed[0], first[0], atol=1e-6)
    assert not np.allclose(mixed[1], first[1])
    assert np.array_equal(agent.policy.predict(observation, deterministic=True)[0], first)


def test_weights_of_another_shape_are_refused(
    classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    env = _env(classifier, scenes)
    small, usual = (make_agent("ppo", env, policy_kwargs=units) for units in (SMALL_UNITS, None))
    save_policy(tmp_path / "policy.safetensors", small)

    with pytest.raises(CheckpointError, match=r"policy\.safetensors"):
        load_policy(tmp_path / "policy.safetensors", usual)
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_policy(tmp_path / "none.safetensors", usual)


def test_own_environments_are_asked_for_no_more_than_spaces_and_numbers(
    classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    """An environment in another process sends what it is asked for through a pipe."""
    asked: list[str] = []

    class Noting(gymnasium.Wrapper[Any, Any, Any, Any]):
        def get_wrapper_attr(self, name: str) -> Any:
            asked.append(name)
            return super().get_wrapper_attr(name)

    task = Task(scenes, classifier)
    env = DummyVecEnv([lambda: Noting(GlanceFocusEnv(task, EpisodeSpec(observe=("hidden",))))] * 2)
    agent: Any = make_agent("ppo", env, policy_kwargs=SMALL_UNITS)
    DeterministicPolicy(agent)
    DeterministicPolicy(make_agent("crossq", env, policy_kwargs=SMALL_UNITS))

    assert agent.n_steps == 384  # 128 whole episodes in each of two environments
    assert set(asked) <= {"num_glimpses", "render_mode"}


def test_places_are_rated_by_what_is_there_and_by_visits() -> None:
    scores = PlaceScores(channels=1, side=5, context=2)
    maps, context = torch.zeros(2, 1, 4, 6), torch.zeros(2, 2)
    maps[0, 0, 0, 0] = maps[1, 0, 3, 5] = 1.0  # the first and the last corner
    visits = torch.tensor([[[-1.0, -1.0, 1.0], [0.5, 0.5, 0.0]]]).repeat(2, 1, 1)
    last = torch.tensor([[1.0, 0.0]]).repeat(2, 1)
    nothing = scores(torch.zeros_like(maps), context, visits, last)

    changed = (scores(maps, context, visits, last) - nothing).abs() > 1e-6

    assert nothing.shape == (2, 25)
    assert changed[0, 0] and not changed[0, 12:].any() and changed[1, 24] and not changed[1, :13].any()
    elsewhere = visits.clone()
    elsewhere[:, 1, :2] = -0.5  # not taken
    torch.testing.assert_close(scores(maps, context, elsewhere, last), scores(maps, context, visits, last))
    elsewhere[:, 0, :2] = 1.0
    assert not torch.allclose(scores(maps, context, elsewhere, last), scores(maps, context, visits, last))


@torch.no_grad()
def test_a_place_may_be_told_by_what_is_known_alone() -> None:
    scores = PlaceScores(channels=1, side=5, context=2)
    maps, visits, last = torch.zeros(1, 1, 4, 6), torch.zeros(1, 1, 3), torch.zeros(1, 1)
    context = torch.tensor([[1.0, 0.0]])
    scores.coarse.weight.zero_()
    before = scores(maps, context, visits, last)
    scores.coarse.weight[0, 0] = 1.0  # the first place of the coarse map

    gain = scores(maps, context, visits, last) - before

    assert gain[0, 0] == pytest.approx(1.0) and not gain[0, 1:].any()
