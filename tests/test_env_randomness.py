"""What is drawn by which generator: images, the reward's patches, first looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from classifiers.data.map_style import DatasetImages
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task
from gfnet_env.glance_cache import GlanceCache

MakeClassifier = Callable[..., FrozenClassifier]
REWARDS: tuple[dict[str, Any], ...] = ({"reward": "increment"}, {}, {"reward_samples": 3})


def _images_of_single(task: Task, rules: dict[str, Any], seed: int | None) -> list[int]:
    env = GlanceFocusEnv(task, EpisodeSpec(**rules))
    seen = [env.reset(seed=seed)[1]["index"]]
    for _ in range(7):
        while not env.step(np.zeros(2, np.float32))[2]:
            pass
        seen.append(env.reset()[1]["index"])
    return seen


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_images_of_rows_do_not_depend_on_the_reward(
    classifier: FrozenClassifier, scenes: ArrayImages, mode: str
) -> None:
    task = Task(scenes, classifier.with_spec(num_glimpses=3))

    def images(rules: dict[str, Any]) -> np.ndarray:
        env = GlanceFocusVectorEnv(task, EpisodeSpec(**rules), num_envs=3, autoreset_mode=mode)
        seen = [env.reset(seed=5)[1]["index"]]
        for _ in range(12):
            _, _, terminated, _, info = env.step(np.zeros((3, 2), np.float32))
            if mode == "DISABLED" and terminated.any():
                info = env.reset(options={"reset_mask": terminated})[1]
            seen.append(info["index"])
        return np.array(seen)

    first, *others = (images(rules) for rules in REWARDS)

    assert all(np.array_equal(first, other) for other in others)
    singles = _images_of_single(task, {}, seed=6)  # row 1's
    episodes = [index for step, index in enumerate(first[:, 1]) if step == 0 or index != first[step - 1, 1]]
    assert (
        episodes
        == [index for step, index in enumerate(singles) if step == 0 or index != singles[step - 1]][: len(episodes)]
    )


def test_unseeded_environments_draw_patches_too(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec())
    env.reset()

    rewards = [env.step(np.zeros(2, np.float32))[1] for _ in range(3)]

    assert len(set(rewards)) == 3 and -1.0 <= min(rewards) <= max(rewards) <= 1.0


def test_rows_have_generators_and_seeds(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=3)
    assert len(set(env.np_random_seed)) == 3  # drawn by the system

    env.reset(seed=[4, None, 7])
    assert (env.np_random_seed[0], env.np_random_seed[2]) == (4, 7)
    env.reset(seed=11)
    assert env.np_random_seed == (11, 12, 13)

    index = env.reset(seed=3)[1]["index"]
    env.np_random = tuple(np.random.Generator(np.random.PCG64(3 + row)) for row in range(3))  # type: ignore[assignment]  # a generator for each row
    assert env.np_random_seed == (-1, -1, -1)
    assert np.array_equal(env.reset()[1]["index"], index)
    with pytest.raises(ValueError, match="1 generators for 3 environments; pass one for each"):
        env.np_random = (np.random.default_rng(0),)  # type: ignore[assignment]  # likewise


class _RandomColors(torch.utils.data.Dataset[Any]):
    """Another plain color at every access, as a random transform would give."""

    classes = ("red", "green")

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.rand(3, 1, 1, generator=self.generator).expand(3, 32, 32), index


def test_with_random_transforms_the_observed_picture_is_the_cropped_one(color_classifier: MakeClassifier) -> None:
    env = GlanceFocusEnv(Task(DatasetImages(_RandomColors(), (32, 32)), color_classifier()), EpisodeSpec())
    colors = []

    for _ in range(4):
        glance = env.reset(options={"index": 1})[0]["features"]
        patch = env.step(np.zeros(2, np.float32))[0]["features"]
        assert np.allclose(glance, patch, atol=1e-5)  # plain: both have its one color
        colors.append(tuple(glance.ravel()))

    assert len(set(colors)) == 4


@pytest.mark.parametrize(("is_deterministic", "remembers"), [(False, False), (True, True)])
def test_glances_are_remembered_of_deterministic_data_sets_only(
    color_classifier: MakeClassifier, monkeypatch: pytest.MonkeyPatch, is_deterministic: bool, remembers: bool
) -> None:
    used: list[int] = []
    glance = GlanceCache.glance
    monkeypatch.setattr(GlanceCache, "glance", lambda self, *rest: used.append(1) or glance(self, *rest))
    source = DatasetImages(_RandomColors(), (32, 32), is_deterministic=is_deterministic)

    GlanceFocusEnv(Task(source, color_classifier()), EpisodeSpec()).reset(seed=0)

    assert bool(used) is remembers
