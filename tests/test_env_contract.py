"""The contract of single and vector environments, whatever the id, the task and the rules."""

from __future__ import annotations

import copy
import functools
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES, expected_checker_warnings, random_classifier, with_rules
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from classifiers.data.loading import Prefetcher
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.spec import ADJUSTABLE, ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task

SIGNS = "GFNet-SyntheticSigns-v0"
SIZES = (24, 32, 48)
RULES: dict[str, dict[str, Any]] = {
    "default": {},
    "exit": {"reward_samples": 2, "exit_confidence": 0.3},
    "stop": {"reward": "increment", "step_cost": 0.1, "stop_action": True, "exit_confidence": 0.3},
    "two sides": {"patch_size": 32, "glance_size": 64, "reward_samples": 2},
    "hidden": {"observe": ("hidden",), "stop_action": True, "patch_size": 40, "num_glimpses": 5},
    "sizes": {"patch_sizes": SIZES},
    "pixels": {"patch_sizes": SIZES, "observe": ("glance_pixels", "patch_pixels", "locations")},
    "size action": {
        "patch_sizes": SIZES,
        "size_action": True,
        "reward": "increment",
        "step_cost": "multiply_adds",
        "price": 0.2,
    },
}


@pytest.fixture(params=[*RULES, "clips"])
def parts(
    request: pytest.FixtureRequest, classifier: FrozenClassifier, clip_classifier: FrozenClassifier, scenes: ArrayImages
) -> Iterator[tuple[Task, EpisodeSpec]]:
    if request.param != "clips":
        yield with_rules(scenes, classifier, RULES[request.param])
        return
    pixels = torch.randint(0, 256, (6, 4, 3, 64, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels, boxes = torch.arange(6) % 3, torch.zeros(6, 1, 4, dtype=torch.int64)
    clips = Prefetcher(ArrayImages(pixels, labels, boxes, ("push", "pull", "lift")), 1)
    yield Task(clips, clip_classifier), EpisodeSpec()
    clips.close()


def _is_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_a_batch_is_its_rows(parts: tuple[Task, EpisodeSpec]) -> None:
    """Row i of a vector environment is a single environment seeded seed + i: also when some rows begin anew."""
    together = GlanceFocusVectorEnv(*parts, num_envs=3, autoreset_mode="DISABLED")
    alone = [GlanceFocusEnv(*parts) for _ in range(3)]
    together.action_space.seed(1)
    observation, info = together.reset(seed=40)
    singles = [env.reset(seed=40 + row) for row, env in enumerate(alone)]

    for _ in range(5):
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


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_a_seed_or_a_saved_state_decides_what_comes(parts: tuple[Task, EpisodeSpec], mode: str) -> None:
    first, again, resumed = (GlanceFocusVectorEnv(*parts, num_envs=3, autoreset_mode=mode) for _ in range(3))
    first.action_space.seed(7)
    assert _is_same(first.reset(seed=7)[0], again.reset(seed=7)[0])

    for step in range(6):
        if step == 2:
            resumed.load_state_dict(first.state_dict())
        actions = first.action_space.sample()
        observation, reward, terminated, *_ = first.step(actions)
        for env in (again, resumed)[: 1 + (step >= 2)]:
            other = env.step(actions)
            assert _is_same(observation, other[0])
            assert np.array_equal(reward, other[1]) and np.array_equal(terminated, other[2])


@expected_checker_warnings
@pytest.mark.filterwarnings("ignore:.*not wrapped in an `EnvSpec`|.*spec is None|.*env.spec:UserWarning")
@pytest.mark.parametrize("parts", ["default", "stop", "size action", "clips"], indirect=True)
def test_both_checkers_pass(parts: tuple[Task, EpisodeSpec]) -> None:
    check_env(GlanceFocusEnv(*parts, render_mode="rgb_array"), skip_render_check=True)
    sb3_check_env(GlanceFocusEnv(*parts))


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_rules_are_arguments_of_an_id(classifier: FrozenClassifier, rules: dict[str, Any]) -> None:
    env = gymnasium.make(SIGNS, num_scenes=2, scenes=SMALL_SCENES, classifier=classifier, **rules)

    dynamics = env.unwrapped.dynamics  # type: ignore[attr-defined]  # ours
    sizes = {key: rules[key] for key in ADJUSTABLE if key in rules}
    assert dynamics.spec == EpisodeSpec(**{key: value for key, value in rules.items() if key not in sizes})
    assert all(getattr(dynamics.classifier.spec, key) == value for key, value in sizes.items())


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["signs", "hard", "gestures", "folder", "data set"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Arguments of `gymnasium.make`."""

    class Dots(torch.utils.data.Dataset[Any]):
        classes = ("a", "b")

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.full((3, 70, 60), index / 6), index % 2

    networks = random_classifier(
        ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=3, hidden_size=8), 2
    )
    if request.param == "folder":
        root = request.getfixturevalue("picture_tree")
        return {"id": "GFNet-ImageFolder-v0", "root": root, "image_size": (96, 128), "classifier": networks}
    by_name: dict[str, dict[str, Any]] = {
        "signs": {"id": SIGNS, "num_scenes": 8},
        "hard": {"id": "GFNet-SyntheticSignsHard-v0", "num_scenes": 3},
        "gestures": {"id": "gfnet_env:GFNet-SyntheticGestures-v0", "num_clips": 5},
        "data set": {"id": "GFNet-ImageFolder-v0", "dataset": Dots(), "image_size": 64, "classifier": networks},
    }
    return by_name[request.param]


@pytest.mark.parametrize("is_vector", [False, True])
def test_the_life_of_an_environment(options: dict[str, Any], is_vector: bool) -> None:
    before = set(threading.enumerate())
    make: Any = functools.partial(gymnasium.make_vec, num_envs=2) if is_vector else gymnasium.make
    env = make(**options)
    observation, info = env.reset(seed=0)
    env.action_space.seed(0)
    assert observation in env.observation_space
    opened = [env]
    if "dataset" not in options:  # a class of this function can't be pickled
        opened += [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    if not is_vector and "dataset" not in options:
        rebuilt = gymnasium.make(pickle.loads(pickle.dumps(env.spec)))
        assert _is_same(observation, rebuilt.reset(seed=0)[0])
        opened.append(rebuilt)

    over = np.zeros(2 if is_vector else 1, bool)
    while not over.any():
        action = env.action_space.sample()
        (observation, reward, terminated, truncated, info), *others = (each.step(action) for each in opened)
        assert observation in env.observation_space
        assert np.abs(reward).max() <= 1 and not np.any(truncated)
        for other in others:
            assert _is_same(observation, other[0]) and np.array_equal(reward, other[1])
        over |= terminated
    for each in opened:
        each.close()
        each.close()

    assert info["step"] == 4 if "num_scenes" in options and not is_vector else np.all(info["step"] > 1)
    assert set(threading.enumerate()) <= before
    for call in (lambda: env.unwrapped.step(action), env.reset):
        with pytest.raises(RuntimeError, match="closed environment"):
            call()


def test_an_environment_may_outlive_another_one_on_its_task(picture_tree: Path) -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=3, hidden_size=8)
    options: dict[str, Any] = {"root": picture_tree, "image_size": 64, "classifier": random_classifier(spec, 2)}
    first = gymnasium.make("GFNet-ImageFolder-v0", **options).unwrapped
    second = GlanceFocusEnv(first.task, EpisodeSpec())  # type: ignore[attr-defined]  # ours
    second.reset(seed=0)

    first.close()

    assert second.step(np.zeros(2, np.float32))[0] in second.observation_space
    second.reset()
    second.close()


# --- wrong arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [1.5, "one", None, True, -1, 24, [1, 2, 3], [0.0, 1.0], [0, -1]])
def test_images_that_do_not_exist_are_refused(classifier: FrozenClassifier, scenes: ArrayImages, index: Any) -> None:
    task = Task(scenes, classifier)
    for env in (GlanceFocusEnv(task, EpisodeSpec()), GlanceFocusVectorEnv(task, EpisodeSpec(), num_envs=2)):
        with pytest.raises(ValueError, match=r"index=.*; pass a whole number from 0 to 23"):
            env.reset(options={"index": index})


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ({"num_envs": 0}, {}),
        ({"num_envs": 2.0}, {}),
        ({"autoreset_mode": "later"}, {}),
        ({"render_mode": "movie"}, {}),
        ({}, {"seed": 1.5}),
        ({}, {"seed": [1, 2]}),
        ({}, {"options": {"mask": 1}}),
        ({}, {"options": {"reset_mask": np.array([True])}}),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    classifier: FrozenClassifier, scenes: ArrayImages, arguments: dict[str, Any], options: dict[str, Any]
) -> None:
    (name,) = arguments or options.get("options") or options
    with pytest.raises(ValueError, match=name):
        GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), **{"num_envs": 3, **arguments}).reset(**options)


@pytest.mark.parametrize(
    "rules",
    [
        {"reward": "increments"},
        {"reward_samples": 0},
        {"exit_confidence": 0.0},
        {"step_cost": -0.1},
        {"step_cost": "glimpses"},
        {"observe": ("hiden",)},
        {"patch_size": 4},
        {"glance_size": 0},
        {"glance_size": 97},
        {"size_action": True},
        {"price": 0.1, "step_cost": 0.1},
        {"price": 0, "step_cost": "multiply_adds"},
        {"price": None, "step_cost": "multiply_adds"},
    ],
    ids=str,
)
def test_bad_rules_are_refused(classifier: FrozenClassifier, rules: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(rules))):
        gymnasium.make(SIGNS, num_scenes=2, scenes=SMALL_SCENES, classifier=classifier, **rules)


def test_parts_that_do_not_fit_are_refused(
    classifier: FrozenClassifier, clip_classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    def images(pixels: torch.Tensor, names: tuple[str, ...] = scenes.class_names) -> ArrayImages:
        return ArrayImages(pixels, scenes.labels[: len(pixels)], scenes.boxes[: len(pixels)], names)

    for source, message in (
        (images(scenes.images, scenes.class_names[:2]), "knows 10 classes, the data set has 2"),
        (images(scenes.images[..., :40, :40]), "patch_size=48 exceeds the 40x40 image"),
        (images(scenes.images[:0]), "no image"),
        (
            images(scenes.images[:, None].expand(-1, 4, -1, -1, -1)),
            "takes images, the data set holds clips of 4 frames",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            Task(source, classifier)
    with pytest.raises(ValueError, match="takes clips of 4 frames, the data set holds images"):
        Task(images(scenes.images, scenes.class_names[:3]), clip_classifier)
    with pytest.raises(ValueError, match="num_glimpses=4 exceeds the 3 classifiers of the cascade"):
        clip_classifier.with_spec(num_glimpses=4)
