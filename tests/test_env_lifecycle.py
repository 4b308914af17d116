"""Closing, copying and pickling environments, and one clear sentence for each wrong argument."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import random_classifier

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task

FOLDER = "GFNet-ImageFolder-v0"


def _prefetch_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("prefetch")}


@pytest.fixture
def options(picture_tree: Path) -> dict[str, Any]:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=3, hidden_size=8)
    return {"root": picture_tree, "image_size": (96, 128), "classifier": random_classifier(spec, 2)}


def test_closing_ends_the_threads(options: dict[str, Any]) -> None:
    before = _prefetch_threads()
    env, envs = gymnasium.make(FOLDER, **options), gymnasium.make_vec(FOLDER, num_envs=2, **options)
    env.reset(seed=0)
    envs.reset(seed=0)
    assert _prefetch_threads() - before

    for opened in (env, envs):
        opened.close()
        opened.close()

    assert not _prefetch_threads() - before
    with pytest.raises(RuntimeError, match=r"step\(\) was called on a closed environment; make a new one"):
        env.unwrapped.step(np.zeros(2, np.float32))
    with pytest.raises(RuntimeError, match=r"step\(\) was called on a closed environment; make a new one"):
        envs.step(np.zeros((2, 2), np.float32))
    for opened in (env, envs):
        with pytest.raises(RuntimeError, match=r"reset\(\) was called on a closed environment; make a new one"):
            opened.reset()


def test_an_environment_may_outlive_another_one_on_its_task(
    classifier: FrozenClassifier, options: dict[str, Any]
) -> None:
    first = gymnasium.make(FOLDER, **options).unwrapped
    second = GlanceFocusEnv(first.task, EpisodeSpec())  # type: ignore[attr-defined]  # ours
    second.reset(seed=0)

    first.close()

    observation, *_ = second.step(np.zeros(2, np.float32))
    assert observation in second.observation_space
    second.reset()
    second.close()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("is_vector", [False, True])
def test_copies_go_on_alike(options: dict[str, Any], duplicate: Callable[[Any], Any], is_vector: bool) -> None:
    env: Any = gymnasium.make_vec(FOLDER, num_envs=2, **options) if is_vector else gymnasium.make(FOLDER, **options)
    env.reset(seed=0)
    action = np.zeros((2, 2) if is_vector else 2, np.float32)
    env.step(action)

    twin = duplicate(env)

    for _ in range(2):
        ours, theirs = env.step(action), twin.step(action)
        assert all(np.array_equal(ours[0][key], theirs[0][key]) for key in ours[0])
        assert np.array_equal(ours[1], theirs[1])
        if not is_vector and ours[2]:
            ours, theirs = env.reset(), twin.reset()
            assert ours[1]["index"] == theirs[1]["index"]
            break
    env.close()
    twin.step(action)  # has threads of its own
    twin.close()


@pytest.mark.parametrize("num_envs", [0, -3, 2.0, True, "two"])
def test_a_number_of_environments_that_is_none_is_refused(
    classifier: FrozenClassifier, scenes: ArrayImages, num_envs: Any
) -> None:
    with pytest.raises(ValueError, match=r"num_envs=.*; pass a whole number, 1 or more"):
        GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=num_envs)


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (1.5, "seed=1.5; pass a whole number, one for each"),
        ([1, 2, 3], "3 seeds for 2 environments; pass one for each"),
    ],
)
def test_seeds_that_do_not_fit_are_refused(
    classifier: FrozenClassifier, scenes: ArrayImages, seed: Any, message: str
) -> None:
    envs = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=2)

    with pytest.raises(ValueError, match=message):
        envs.reset(seed=seed)


@pytest.mark.parametrize("index", [1.5, "one", None, True, -1, 24, [1, 2, 3], [0.0, 1.0], [0, -1]])
def test_images_that_do_not_exist_are_refused(classifier: FrozenClassifier, scenes: ArrayImages, index: Any) -> None:
    for env in (
        GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec()),
        GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=2),
    ):
        with pytest.raises(ValueError, match=r"index=.*; pass a whole number from 0 to 23"):
            env.reset(options={"index": index})
