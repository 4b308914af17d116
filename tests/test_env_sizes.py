"""Sizes of glance and patches: one, several that are drawn (Section 4.2), several that the agent chooses."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from red_corner import MEAN, RED, MakeClassifier, action, red_probability

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import glimpse_costs
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, GridAction, Task

SIZES = (24, 32, 48)
QUARTER = (120 + 135 / 4, 120 - 120 / 4)  # mean (red, green) of a patch of 16x16 in the corner


@pytest.fixture(scope="module")
def several(classifier: FrozenClassifier) -> FrozenClassifier:
    return classifier.with_spec(patch_sizes=SIZES)


def _env(several: FrozenClassifier, scenes: ArrayImages, **rules: Any) -> GlanceFocusEnv:
    return GlanceFocusEnv(Task(scenes, several), EpisodeSpec(**rules))


# --- one size --------------------------------------------------------------------------------------------------------


def test_patches_and_glances_have_their_sizes(color_classifier: MakeClassifier, red_corner_images: ArrayImages) -> None:
    """Of a 16x16 patch in the corner a quarter is red; a glance of any size has the image's mean color."""
    task = Task(red_corner_images, color_classifier())
    resized = Task(task.source, task.classifier.with_spec(patch_size=16, glance_size=8))
    env = GlanceFocusEnv(resized, EpisodeSpec(reward="increment"))

    _, info = env.reset(seed=0)
    assert info["label_probability"] == pytest.approx(red_probability(MEAN), abs=1e-5)
    pixels = env.dynamics.classifier.first_input(env.dynamics.images)
    *_, info = env.step(action(1, 1))

    assert pixels.shape == (1, 3, 8, 8)  # the image, made as small as asked
    assert (pixels[0, 0] == 120).sum() == 60 and (pixels[0, 0] == 255).sum() == 4
    assert info["top_left_px"].tolist() == [16, 16] and info["patch_size"] == 16
    assert info["label_probability"] == pytest.approx(red_probability(MEAN, QUARTER), abs=1e-5)
    assert task.classifier.spec.patch_size == 8  # the task's own is left alone


def test_one_size_needs_no_more_keys_or_random_numbers(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    plain, same = (
        GlanceFocusVectorEnv(Task(scenes, classifier.with_spec(**sizes)), EpisodeSpec(), num_envs=3)
        for sizes in ({}, {"patch_sizes": (48,)})
    )

    one, other = plain.reset(seed=3), same.reset(seed=3)

    assert list(one[0]) == list(other[0]) == ["features", "hidden", "locations", "progress"]
    assert np.array_equal(one[1]["index"], other[1]["index"])


# --- several sizes ---------------------------------------------------------------------------------------------------


def test_sizes_are_drawn_shown_and_told(several: FrozenClassifier, scenes: ArrayImages) -> None:
    env = _env(several, scenes)
    costs = [glimpse_costs(several, size) for size in range(3)]
    drawn = set()

    for seed in range(12):
        observation, info = env.reset(seed=seed)
        assert observation["last_size"].tolist() == [0, 0, 0] and info["patch_size"] == 48
        spent, terminated = costs[0][0], False
        while not terminated:
            size = int(observation["next_size"].argmax())
            observation, _, terminated, _, info = env.step(action(0.2, -0.4))
            spent += costs[size][1]
            drawn.add((info["step"], size))
            assert info["patch_size"] == SIZES[size] and info["multiply_adds"] == spent
            assert observation["last_size"].tolist() == np.eye(3)[size].tolist()
        assert observation["next_size"].tolist() == [0, 0, 0]  # none is to come

    assert drawn == {(step, size) for step in (2, 3, 4) for size in range(3)}


def test_a_patch_of_the_next_size_is_taken(color_classifier: MakeClassifier, red_corner_images: ArrayImages) -> None:
    """The bottom-right 8x8 pixels are red: all of a patch of 8, a quarter of one of 16."""
    networks = color_classifier().with_spec(patch_sizes=(8, 16))
    env = GlanceFocusEnv(Task(red_corner_images, networks), EpisodeSpec(reward="increment"))
    corner = {8: RED, 16: QUARTER}

    for sides in ((8, 16), (16, 8), (8, 8)):
        env.reset(options={"patch_sizes": sides, "index": 0})
        for step, side in enumerate(sides, 1):
            *_, info = env.step(action(1, 1))
            seen = red_probability(MEAN, *(corner[each] for each in sides[:step]))
            assert info["label_probability"] == pytest.approx(seen, abs=1e-5)
            assert info["patch_size"] == side and info["top_left_px"].tolist() == [32 - side] * 2


def test_random_patches_of_the_reward_have_the_rows_size(
    color_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    """A patch as large as the image leaves no choice: the contrast is 0; with a small one it is not."""
    networks = color_classifier().with_spec(patch_sizes=(8, 32))
    env = GlanceFocusVectorEnv(Task(red_corner_images, networks), EpisodeSpec(reward_samples=4), num_envs=2)
    env.reset(seed=0, options={"patch_sizes": [[32, 32], [8, 8]]})

    _, reward, *_ = env.step(np.ones((2, 2), np.float32))

    assert reward[0] == pytest.approx(0.0, abs=1e-6) and reward[1] > 0.05


def test_the_built_in_task_has_sizes_by_one_argument() -> None:
    env = gymnasium.make("GFNet-SyntheticSigns-v0", patch_sizes=(32, 48, 64), num_scenes=4)
    observation, _ = env.reset(seed=0)

    assert observation["features"].shape == (96, 8, 8)  # of 64 pixels
    assert observation["next_size"].sum() == 1 and observation in env.observation_space
    assert env.unwrapped.dynamics.classifier.spec.glance_side == 48  # type: ignore[attr-defined]  # ours: as trained


# --- the agent chooses -----------------------------------------------------------------------------------------------


def test_the_agent_chooses_sizes(several: FrozenClassifier, scenes: ArrayImages) -> None:
    env = _env(several, scenes, size_action=True)
    observation, _ = env.reset(seed=0)
    assert env.action_space.shape == (3,) and env.action_space.names == ("row", "col", "size")  # type: ignore[attr-defined]  # ours
    assert "next_size" not in observation

    assert [env.step(action(0, 0, size))[4]["patch_size"] for size in (-1.0, 0.0, 1.0)] == [24, 32, 48]
    env.reset(seed=0)
    assert [env.step(action(0, 0, size))[4]["patch_size"] for size in (-0.34, -0.33, 0.34)] == [24, 32, 48]


def test_smaller_patches_cost_less(several: FrozenClassifier, scenes: ArrayImages) -> None:
    rules: dict[str, Any] = {"reward": "increment", "size_action": True, "stop_action": True}
    free, priced = (
        _env(several, scenes, **rules, **cost) for cost in ({}, {"step_cost": "multiply_adds", "price": 0.2})
    )
    costs = [glimpse_costs(several, size)[1] for size in range(3)]
    for env in (free, priced):
        env.reset(seed=0)

    for size, choice in enumerate((-1.0, 0.0)):
        gain, net = (env.step(action(0.1, 0.1, -1.0, choice))[1] for env in (free, priced))
        assert gain - net == pytest.approx(0.2 * costs[size] / costs[2])
    _, reward, terminated, _, info = priced.step(action(0, 0, 1.0, 1.0))
    assert (reward, terminated, info["patch_size"]) == (0.0, True, 32)  # a stop costs nothing


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [40, [24, 32], "large"])
def test_wrong_sizes_of_an_episode_are_refused(several: FrozenClassifier, scenes: ArrayImages, sides: Any) -> None:
    with pytest.raises(ValueError, match=r"patch_sizes=.*; pass one of 24, 32, 48, or 3 of them"):
        _env(several, scenes).reset(options={"patch_sizes": sides})
    with pytest.raises(ValueError, match="patch_sizes with size_action"):
        _env(several, scenes, size_action=True).reset(options={"patch_sizes": 24})


def test_rules_about_sizes_need_several(
    classifier: FrozenClassifier, several: FrozenClassifier, scenes: ArrayImages
) -> None:
    for networks, size_action in ((classifier, False), (several, True)):
        with pytest.raises(ValueError, match="observe holds 'next_size', but"):
            _env(networks, scenes, observe=("features", "next_size"), size_action=size_action)
    with pytest.raises(ValueError, match="patch_size=128 exceeds the 96x128 image"):
        Task(scenes, several.with_spec(patch_sizes=(32, 128)))
    with pytest.raises(ValueError, match=r"actions are \('row', 'col', 'size'\); a grid of places"):
        GridAction(_env(several, scenes, size_action=True))
