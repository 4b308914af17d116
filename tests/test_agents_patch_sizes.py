"""Agents in environments whose patches have several sizes, and configs of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import with_rules

from agents.algorithms.make_agent import make_agent
from agents.algorithms.stage2 import train_agent
from agents.policies.actor_critic import GlimpseActorCriticPolicy
from agents.policies.baselines import OraclePolicy
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.weights import load_policy, save_policy
from agents.runs.config_files import dump_config, load_config, parse_config, parse_yaml
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.glimpse import View
from gfnet_env import GlanceFocusEnv, GlanceFocusVectorEnv

SIZES = (24, 32, 48)
CHOSEN: dict[str, Any] = {"size_action": True, "step_cost": "multiply_adds", "price": 0.1, "reward": "increment"}
SMALL_UNITS = {"extractor": {"conv_channels": 4, "units": 16}}


def _env(
    classifier: FrozenClassifier, source: ArrayImages, num_envs: int = 4, sizes: tuple[int, ...] = SIZES, **rules: Any
) -> GlanceFocusVectorEnv:
    task, episode = with_rules(source, classifier, {"patch_sizes": sizes, **rules})
    return GlanceFocusVectorEnv(task, episode, num_envs=num_envs, autoreset_mode="SAME_STEP")


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("ppo", {"observe": ("hidden", "next_size")}),
        ("ppo_gru", CHOSEN),
        ("crossq", {}),
        *(pytest.param(name, CHOSEN, marks=pytest.mark.slow) for name in ("recurrent_ppo", "sac")),
    ],
)
def test_agents_learn_and_are_kept(
    name: str, rules: dict[str, Any], classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    options: dict[str, dict[str, Any]] = {
        "sac": {"learning_starts": 4},
        "crossq": {"learning_starts": 4},
        "ppo": {"n_steps": 6},
        "ppo_gru": {"policy_kwargs": SMALL_UNITS, "n_steps": 6},
    }
    env = _env(classifier, scenes, **rules)
    agent, other = (make_agent(name, env, seed=seed, **options.get(name, {})) for seed in (0, 1))

    train_agent(agent, 24, seed=0)
    save_policy(tmp_path / "policy.safetensors", agent)
    load_policy(tmp_path / "policy.safetensors", other)

    found = [DeterministicPolicy(each) for each in (agent, other)]
    assert "last_size" in found[0].observation_keys or "observe" in rules
    env.reset(seed=1)
    places = [policy(env.dynamics.view(), None)[0] for policy in found]
    assert torch.equal(*places) and places[0].shape == (4, 2)


@pytest.mark.parametrize("name", ["ppo", "ppo_gru"])
def test_an_agent_and_its_policy_see_the_same_size(
    name: str, classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    env = _env(classifier, scenes, num_envs=24)
    agent = make_agent(name, env, seed=0, policy_kwargs=SMALL_UNITS)
    assert isinstance(agent.policy, GlimpseActorCriticPolicy)
    torch.nn.init.normal_(agent.policy.action_net[0].weight, std=2.0)  # type: ignore[index]  # linear, then tanh
    observation, _ = env.reset(options={"index": np.arange(24), "patch_sizes": 32})
    networks = env.dynamics.classifier
    view = View.first(networks.glance(scenes.images), scenes.images, 4, num_sizes=3)

    actions, _ = agent.predict(observation, deterministic=True)
    small, middle, large = (DeterministicPolicy(agent)(view.with_next_size(size))[0].numpy() for size in range(3))  # type: ignore[arg-type]  # on-policy

    assert np.allclose(middle, (actions + 1) / 2, atol=1e-5)
    assert not np.allclose(small, middle, atol=1e-3) and not np.allclose(middle, large, atol=1e-3)


def test_an_agent_chooses_every_size_at_first(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = _env(classifier, scenes, num_envs=24, stop_action=True, **CHOSEN)
    agent = make_agent("ppo", env, seed=0, policy_kwargs=SMALL_UNITS)
    observation, _ = env.reset(seed=0)

    actions = np.concatenate([agent.predict(observation)[0] for _ in range(40)])

    shares = np.bincount(np.minimum((actions[:, 3] + 1) / 2 * 3, 2).astype(int)) / len(actions)
    assert shares.min() > 0.15
    assert 0.01 < (actions[:, 2] > 0).mean() < 0.08  # and rarely stops


def test_agents_learn_which_size_is_worth_its_price(
    classifier: FrozenClassifier, red_corner_images: ArrayImages, color_classifier: Any
) -> None:
    """The smallest patch in the red corner is the best look of all, and the cheapest."""
    env = _env(color_classifier(), red_corner_images, num_envs=64, sizes=(8, 16, 32), num_glimpses=2, **CHOSEN)
    agent = make_agent("ppo", env, seed=0, policy_kwargs=SMALL_UNITS, learning_rate=5e-3, n_steps=2, batch_size=128)

    train_agent(agent, 128 * 60, seed=0, action_std_schedule=(0.35, 0.1))  # type: ignore[arg-type]  # on-policy

    single = GlanceFocusEnv(env.task, env.dynamics.spec)
    observation, _ = single.reset(seed=0)
    *_, info = single.step(agent.predict(observation, deterministic=True)[0])  # type: ignore[arg-type]  # a Dict
    assert info["patch_size"] == 8 and info["top_left_px"].min() >= 20


def test_the_oracle_tries_patches_of_the_next_size(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = _env(classifier, scenes, num_envs=4)
    env.reset(options={"index": np.arange(4), "patch_sizes": [[24] * 3, [32] * 3, [48] * 3, [24] * 3]})
    networks = env.dynamics.classifier

    together, state = OraclePolicy(networks, 3)(env.dynamics.view(), None)
    again, _ = OraclePolicy(networks, 3)(env.dynamics.view(), state)

    assert torch.equal(together, again)
    for row, side in enumerate((24, 32, 48, 24)):
        alone = networks.with_spec(patch_size=side, glance_size=48)
        view = View.first(alone.glance(scenes.images[row, None]), scenes.images[row, None], 4, scenes.labels[row, None])
        assert torch.equal(OraclePolicy(alone, 3)(view, None)[0][0], together[row])


def test_a_policy_needs_the_maps_and_sizes_that_it_reads(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    policy = DeterministicPolicy(make_agent("ppo", _env(classifier, scenes)))  # type: ignore[arg-type]  # on-policy

    for sizes, message in (((32, 48, 64), "features"), (SIZES[1:], "last_size"), ((48,), "there is only one")):
        with pytest.raises(ValueError, match=message):
            list(classifier.with_spec(patch_sizes=sizes).episode(scenes.images[:2], policy))


# --- configs ---------------------------------------------------------------------------------------------------------


def test_whichever_spelling_comes_last_counts() -> None:
    def sizes(*changes: str) -> tuple[int, ...]:
        return load_config("synthetic_signs", list(changes)).classifier.patch_sizes

    assert sizes() == (48,)
    assert sizes("classifier.patch_sizes=[32, 48]", "classifier.glance_size=48") == (32, 48)
    assert sizes("classifier.patch_sizes=[32, 48]", "classifier.patch_size=40") == (40,)
    demo = load_config("demo", ["classifier={patch_sizes: [32, 48, 64], glance_size: 48}"])
    assert demo.classifier.patch_sizes == (32, 48, 64)
    assert parse_config(parse_yaml(dump_config(demo), "")) == demo
