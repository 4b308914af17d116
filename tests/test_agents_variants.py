"""Agents in the variants of the task, and runs whose episodes have other rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from conftest import SMALL_SCENES, random_classifier, with_rules

from agents.algorithms.make_agent import make_agent
from agents.algorithms.stage2 import train_agent
from agents.evaluation.rollout import evaluate
from agents.policies.actor_critic import GlimpseActorCriticPolicy
from agents.policies.baselines import OraclePolicy
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.weights import load_policy, save_policy
from agents.runs.config_files import dump_config, load_config
from agents.runs.loaded import load_recognizer, load_run
from agents.runs.yaml_text import ConfigError
from classifiers.checkpoints import load_classifier
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.glimpse import View
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task
from gfnet_env.tasks import HARD_SCENES
from scripts.cli import main

MakeClassifier = Callable[..., FrozenClassifier]
HARD = "GFNet-SyntheticSignsHard-v0"
SMALL_UNITS = {"extractor": {"conv_channels": 4, "units": 16}}
VARIANTS: tuple[dict[str, Any], ...] = (
    {"stop_action": True, "step_cost": 0.05, "reward": "increment"},
    {"observe": ("features",)},
    {"observe": ("hidden",)},
    {"observe": ("hidden",), "stop_action": True},
    {"patch_size": 32, "glance_size": 64},
)


def _env(classifier: FrozenClassifier, source: ArrayImages, num_envs: int = 8, **rules: Any) -> GlanceFocusVectorEnv:
    task, episode = with_rules(source, classifier, rules)
    return GlanceFocusVectorEnv(task, episode, num_envs=num_envs, autoreset_mode="SAME_STEP")


@pytest.mark.parametrize("rules", VARIANTS, ids=str)
@pytest.mark.parametrize("name", ["ppo", "ppo_gru"])
def test_agents_learn_and_are_kept_in_every_variant(
    name: str, rules: dict[str, Any], classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    env = _env(classifier, scenes, num_envs=4, **rules)
    agent, other = (make_agent(name, env, seed=seed, n_steps=3, batch_size=12) for seed in (0, 1))
    observation, _ = env.reset(seed=1)
    agent.learn(24)

    actions, _ = agent.predict(observation, deterministic=True)
    save_policy(tmp_path / "policy.safetensors", agent)  # type: ignore[arg-type]  # on-policy
    load_policy(tmp_path / "policy.safetensors", other)  # type: ignore[arg-type]  # on-policy

    assert actions in env.action_space
    assert np.array_equal(other.predict(observation, deterministic=True)[0], actions)
    assert DeterministicPolicy(agent).multiply_adds > 0  # type: ignore[arg-type]  # on-policy


@pytest.mark.parametrize("rules", VARIANTS, ids=str)
@pytest.mark.parametrize("name", ["ppo", "ppo_gru"])
def test_locations_are_the_actions_first_two_components(
    name: str, rules: dict[str, Any], classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    """The agent in the environment, its policy in an evaluation and its network alone look at the same places."""
    env = _env(classifier, scenes, num_envs=24, **rules)
    networks = env.dynamics.classifier
    agent = make_agent(name, env, seed=0, policy_kwargs=SMALL_UNITS)
    assert isinstance(agent.policy, GlimpseActorCriticPolicy)
    torch.nn.init.normal_(agent.policy.action_net[0].weight, std=0.5)  # type: ignore[index]  # linear, then tanh
    observation, _ = env.reset(options={"index": np.arange(24)})
    view = View.first(networks.glance(scenes.images), scenes.images, 4)

    actions, _ = agent.predict(observation, deterministic=True)
    first, _ = DeterministicPolicy(agent)(view)  # type: ignore[arg-type]  # on-policy
    alone, _ = DeterministicPolicy(agent.policy.eval())(view)
    record = evaluate(networks, scenes, DeterministicPolicy(agent))  # type: ignore[arg-type]  # on-policy

    expected = (actions[:, :2] + 1) / 2
    assert np.ptp(expected, axis=0).min() > 1e-4
    for found in (first.numpy(), alone.numpy(), record.location[:, 0]):
        assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["ppo", "ppo_gru"])
def test_agents_learn_when_to_stop(name: str, colour_classifier: MakeClassifier) -> None:
    """Of grey pictures nothing is to be learnt; of half of them the bottom is red, which one look tells."""
    images = torch.full((4, 3, 32, 32), 120, dtype=torch.uint8)
    images[2:, 0, 24:], images[2:, 1, 24:] = 255, 0
    source = ArrayImages(images, torch.zeros(4, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.int64), ("r", "g"))
    rules: dict[str, Any] = {"reward": "increment", "step_cost": 0.08, "stop_action": True}
    env = _env(colour_classifier(), source, num_envs=64, **rules)
    options: dict[str, Any] = {"n_steps": 2, "batch_size": 128, "learning_rate": 5e-3, "policy_kwargs": SMALL_UNITS}
    agent = make_agent(name, env, seed=0, **options)

    train_agent(agent, 128 * 50, seed=0, action_std_schedule=(0.35, 0.1))  # type: ignore[arg-type]  # on-policy

    looks = []
    for index in (0, 2):
        single = GlanceFocusEnv(env.task, EpisodeSpec(**rules))
        observation, info = single.reset(options={"index": index})
        state, finished, taken = None, False, 0
        while not finished:
            action, state = agent.predict(observation, state, np.array([taken == 0]), deterministic=True)  # type: ignore[arg-type]  # a Dict
            observation, _, finished, _, info = single.step(action)
            taken += not info["stopped"]
        looks.append((taken, info["stopped"]))
    assert looks == [(0, True), (1, True)]
    assert info["top_left_px"][0] >= 20  # at the bottom


def test_new_policies_look_rather_than_stop(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = _env(classifier, scenes, num_envs=24, stop_action=True)
    agent = make_agent("ppo", env, seed=0, policy_kwargs=SMALL_UNITS)
    assert isinstance(agent.policy, GlimpseActorCriticPolicy)
    observation, _ = env.reset(seed=0)

    stops = np.concatenate([agent.predict(observation)[0][:, 2] > 0 for _ in range(40)])
    assert 0.01 < stops.mean() < 0.08
    assert not (agent.predict(observation, deterministic=True)[0][:, 2] > 0).any()

    agent.policy.set_std(0.05)
    assert agent.policy.log_std.exp().tolist() == pytest.approx([0.1, 0.1, 0.5])


def test_a_policy_with_nothing_to_read_is_refused(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    with pytest.raises(ValueError, match="but the observation has hidden; pass some of these"):
        make_agent("ppo", _env(classifier, scenes, observe=("hidden",)), policy_kwargs={"extractor": "conv1x1_32"})


def test_policies_pay_only_for_what_they_read(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    def cost(**rules: Any) -> int:
        agent = make_agent("ppo", _env(classifier, scenes, **rules), policy_kwargs=SMALL_UNITS)
        return DeterministicPolicy(agent).multiply_adds

    maps = 96 * 6 * 6 * 4 + 4 * 6 * 6 * 16
    assert cost(observe=("hidden",)) == 16 * 16 + 16 * 2
    assert cost(observe=("features",)) == maps + 16 * 2
    history = 3 * 2 + 4  # three locations, four glimpses
    assert cost(stop_action=True) == maps + (16 + history) * 16 + (16 + 4) * 3  # the one-hot of the step once more


# --- runs ---------------------------------------------------------------------------------------------------------

SHRUNK = [
    f"data.scenes.height={SMALL_SCENES.height}",
    f"data.scenes.width={SMALL_SCENES.width}",
    *("data.num_train=30", "data.num_val=20", "data.num_test=12"),
    *("stage2.num_envs=8", "stage2.env_steps=48", "oracle_grid=2", "stage3.epochs=1"),
]


def _train(out: Path, *changes: str) -> int:
    sets = [part for change in [*SHRUNK, *changes] for part in ("--set", change)]
    return main(["train", "demo", "--out", str(out), "--quiet", *sets])


def test_runs_have_the_rules_of_their_config(tmp_path: Path, scenes: ArrayImages) -> None:
    """Everything is done at the config's sizes, whatever those of the run that it starts from."""
    out = tmp_path / "run"
    sizes = ("classifier.patch_size=32", "classifier.glance_size=64", "classifier.num_glimpses=3")

    assert _train(out, *sizes, "stage2.episode={observe: [hidden], step_cost: 0.01}") == 0

    run = load_run(out)
    assert (run.classifier.spec.patch_size, run.classifier.spec.glance_side) == (32, 64)
    assert load_classifier(out / "stage3" / "classifier.safetensors")[0].spec.glance_size == 64
    env = GlanceFocusEnv(Task(scenes, run.classifier), run.config.stage2.episode)
    costs = env.dynamics.costs
    recognizer = load_recognizer(out)
    found = recognizer.predict(scenes.images)
    assert found.multiply_adds[0] == costs[:3].sum() + 2 * run.policy.multiply_adds
    assert np.allclose(found.locations[0, 0], recognizer.predict(scenes.images[:1]).locations[0, 0], atol=1e-6)
    assert main(["render", str(out), "--images", "0", "--quiet"]) == 0


def test_runs_do_not_learn_to_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"stop_action is not for runs, which stop by confidence; leave it out, or"):
        load_config("demo", ["stage2.episode.stop_action=true"])
    assert _train(tmp_path / "run", "stage2.episode.stop_action=true") == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_runs_that_are_older_than_a_setting_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert _train(out) == 0
    before = yaml.safe_load((out / "config.yaml").read_text())
    for young in ("step_cost", "stop_action", "observe"):
        del before["stage2"]["episode"][young]
    before["stage2"]["episode"].update(patch_size=None, glance_size=None, num_glimpses=4)  # where they once were
    del before["classifier"]["glance_size"]
    (out / "config.yaml").write_text(yaml.safe_dump(before))

    assert _train(out) == 0
    assert _train(out, "stage2.episode.step_cost=0.5") == 1


# --- the harder preset --------------------------------------------------------------------------------------------


def test_the_harder_preset_is_an_id_and_a_config() -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=4, hidden_size=8)
    env = gymnasium.make(HARD, classifier=random_classifier(spec), num_scenes=6)

    observation, _ = env.reset(seed=0)

    assert observation in env.observation_space
    assert env.unwrapped.dynamics.source.image_size == (240, 320)  # type: ignore[attr-defined]  # ours
    boxes = env.unwrapped.dynamics.source.boxes  # type: ignore[attr-defined]  # ours
    heights = (boxes[:, 2] - boxes[:, 0])[boxes.any(dim=1)]
    assert heights.min() >= 24 and heights.max() <= 34
    config = load_config("synthetic_signs_hard")
    assert config.data.scenes == HARD_SCENES
    assert config.classifier == load_config("synthetic_signs_240x320").classifier
    assert yaml.safe_load(dump_config(config))["data"]["scenes"]["max_distractors"] == 5
    assert math.isclose(240 * 320 / 48**2, 960 * 1280 / 192**2)  # Table 4


def test_the_harder_preset_works_bare() -> None:
    """With the weights that come with the package, the oracle reads nearly every sign by its first patch."""
    env = gymnasium.make(HARD, split="val", num_scenes=40)
    networks = env.unwrapped.dynamics.classifier  # type: ignore[attr-defined]  # ours

    record = evaluate(networks, env.unwrapped.dynamics.source, OraclePolicy(networks, 9), num_steps=2)  # type: ignore[attr-defined]  # ours

    glance, focus = (record.prediction == record.label[:, None]).mean(axis=0)
    assert glance < 0.6 and focus > 0.9
