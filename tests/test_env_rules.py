"""Whatever the rules: a batch is its rows, a seed repeats, checkers pass, bad values are refused, all is documented."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import SMALL_SCENES, expected_checker_warnings, random_classifier, with_rules
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task

SIGNS = "GFNet-SyntheticSigns-v0"
SMALL: dict[str, Any] = {"num_scenes": 20, "scenes": SMALL_SCENES}
RULES: tuple[dict[str, Any], ...] = (
    {},
    {"reward_samples": 2, "exit_confidence": 0.3},
    {"reward": "increment", "exit_confidence": 0.3},
    {"stop_action": True, "step_cost": 0.1, "reward": "increment"},
    {"stop_action": True, "exit_confidence": 0.3},
    {"patch_size": 32, "glance_size": 64, "reward_samples": 2},
    {"patch_size": 64},
    {"glance_size": 24, "reward": "increment"},
    {"observe": ("hidden",), "step_cost": 0.5},
    {"observe": ("features",)},
    {"observe": ["hidden"], "stop_action": True, "patch_size": 40, "num_glimpses": 5},
)
TEXT = (Path(__file__).parent.parent / "docs" / "variants.md").read_text(encoding="utf-8")
MULTISCALE = (Path(__file__).parent.parent / "docs" / "multiscale.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_a_batch_is_its_rows(classifier: FrozenClassifier, scenes: ArrayImages, rules: dict[str, Any]) -> None:
    task, episode = with_rules(scenes, classifier, rules)
    together = GlanceFocusVectorEnv(task, episode, num_envs=4, autoreset_mode="DISABLED")
    alone = [GlanceFocusEnv(task, episode) for _ in range(4)]
    together.action_space.seed(1)
    observation, info = together.reset(seed=40)
    singles = [env.reset(seed=40 + row) for row, env in enumerate(alone)]

    for _ in range(6):
        for row, (single, single_info) in enumerate(singles):
            assert set(single) == set(observation)
            assert all(np.allclose(observation[key][row], value, atol=1e-4) for key, value in single.items())
            if info["_index"][row]:  # a masked reset says nothing of the other rows
                assert set(single_info) == {key for key in info if not key.startswith("_") and info[f"_{key}"][row]}
            for key, value in single_info.items():
                assert np.allclose(info[key][row], value, atol=1e-5, equal_nan=True), key
        actions = together.action_space.sample()
        observation, rewards, finished, _, info = together.step(actions)
        steps = [env.step(action) for env, action in zip(alone, actions, strict=True)]
        assert np.allclose(rewards, [step[1] for step in steps], atol=1e-5)
        assert finished.tolist() == [step[2] for step in steps]
        singles = [(step[0], step[4]) for step in steps]
        if finished.any():
            observation, info = together.reset(options={"reset_mask": finished})
            singles = [alone[row].reset() if over else singles[row] for row, over in enumerate(finished)]


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_same_seed_same_trajectory(
    classifier: FrozenClassifier, scenes: ArrayImages, rules: dict[str, Any], mode: str
) -> None:
    def trajectory() -> list[np.ndarray]:
        env = GlanceFocusVectorEnv(*with_rules(scenes, classifier, rules), num_envs=3, autoreset_mode=mode)
        env.action_space.seed(7)
        parts = list(env.reset(seed=7)[0].values())
        for _ in range(8):
            observation, reward, terminated, *_ = env.step(env.action_space.sample())
            parts += [*observation.values(), reward, terminated]
        return parts

    for one, other in zip(trajectory(), trajectory(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("observe", [("features",), ("hidden",), ("hidden", "features")])
def test_only_what_is_chosen_is_observed(
    classifier: FrozenClassifier, scenes: ArrayImages, observe: tuple[str, ...]
) -> None:
    whole, part = (
        GlanceFocusVectorEnv(Task(scenes, classifier), episode, num_envs=2, autoreset_mode="SAME_STEP")
        for episode in (EpisodeSpec(), EpisodeSpec(observe=observe))
    )
    assert set(part.single_observation_space.spaces) == set(observe)  # type: ignore[attr-defined]  # a Dict space
    seen, expected = part.reset(seed=0)[0], whole.reset(seed=0)[0]

    for _ in range(3):
        assert seen in part.observation_space and set(seen) == set(observe)
        assert all(np.array_equal(seen[key], expected[key]) for key in observe)
        actions = whole.action_space.sample()
        seen, *_, info = part.step(actions)
        expected, *_ = whole.step(actions)
    assert set(info["final_obs"][0]) == set(observe)


@expected_checker_warnings
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_both_checkers_pass(classifier: FrozenClassifier, rules: dict[str, Any]) -> None:
    options = {**SMALL, **rules, "classifier": classifier}
    check_env(gymnasium.make(SIGNS, **options, render_mode="rgb_array").unwrapped)
    sb3_check_env(gymnasium.make(SIGNS, **options).unwrapped)


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_every_variant_is_made_by_its_id_and_drawn(classifier: FrozenClassifier, rules: dict[str, Any]) -> None:
    options = {**SMALL, **rules, "classifier": classifier}
    envs = gymnasium.make_vec(SIGNS, num_envs=2, render_mode="rgb_array", **options)
    envs.reset(seed=0)
    frames = [envs.render()]
    envs.step(np.concatenate([np.zeros((2, 2)), -np.ones((2, 1))], 1)[:, : envs.single_action_space.shape[0]])  # type: ignore[index]  # a box
    frames.append(envs.render())

    assert all(not np.array_equal(one[0], other[0]) for one, other in itertools.pairwise(frames))  # type: ignore[index]  # one for each row
    sizes = {key: rules[key] for key in ("patch_size", "glance_size", "num_glimpses") if key in rules}
    dynamics = envs.unwrapped.dynamics  # type: ignore[attr-defined]  # ours
    assert dynamics.spec == EpisodeSpec(**{key: value for key, value in rules.items() if key not in sizes})
    assert all(getattr(dynamics.classifier.spec, key) == value for key, value in sizes.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_cost": -0.1}, "step_cost=-0.1"),
        ({"step_cost": float("nan")}, "step_cost=nan"),
        ({"observe": ()}, r"observe=\(\)"),
        ({"observe": ("hiden",)}, "observe='hiden' .*did you mean 'hidden'"),
        ({"observe": "hidden"}, "observe='hidden'"),
        ({"patch_size": 4}, "patch_size=4"),
        ({"glance_size": 0}, "glance_size=0"),
        ({"patch_size": 100}, "patch_size=100"),
        ({"glance_size": 97}, "glance_size=97"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        gymnasium.make(SIGNS, **SMALL, **arguments)
    assert "\n" not in str(error.value)


def test_more_steps_than_a_cascade_has_are_refused(scenes: ArrayImages) -> None:
    spec = ClassifierSpec(encoder="small_resnet", head="cascade", patch_size=48, num_glimpses=3)
    networks = frozen(random_classifier(spec))
    with pytest.raises(ValueError, match="num_glimpses=4 exceeds the 3 classifiers of the cascade head; pass"):
        networks.with_spec(num_glimpses=4)
    GlanceFocusEnv(Task(scenes, networks.with_spec(num_glimpses=2)), EpisodeSpec())


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", TEXT + MULTISCALE, re.DOTALL))
def test_the_documents_examples_run(snippet: str) -> None:
    exec(compile(snippet, "an example", "exec"), {})


def test_every_rule_is_documented() -> None:
    for name in (*EpisodeSpec.model_fields, "num_glimpses", "patch_size", "patch_sizes", "glance_size"):
        assert f"| `{name}`" in TEXT, name
