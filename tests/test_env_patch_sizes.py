"""Environments whose patches have several sizes (Section 4.2)."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import expected_checker_warnings
from gymnasium.utils.env_checker import check_env
from red_corner import MEAN, MakeClassifier, action, red_probability
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import glimpse_costs
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, GridAction, Task

SIZES = (24, 32, 48)
SIGNS = "GFNet-SyntheticSigns-v0"


@pytest.fixture(scope="module")
def several(classifier: FrozenClassifier) -> FrozenClassifier:
    return classifier.with_spec(patch_sizes=SIZES)


def _env(several: FrozenClassifier, scenes: ArrayImages, **rules: Any) -> GlanceFocusEnv:
    return GlanceFocusEnv(Task(scenes, several), EpisodeSpec(**rules))


def test_sizes_are_drawn_shown_and_told(several: FrozenClassifier, scenes: ArrayImages) -> None:
    env = _env(several, scenes)
    costs = [glimpse_costs(several, size) for size in range(3)]
    drawn = set()

    for seed in range(12):
        observation, info = env.reset(seed=seed)
        assert observation["last_size"].tolist() == [0, 0, 0] and info["patch_size"] == 48
        spent, terminated = costs[0][0], False
        while not terminated:
            assert observation in env.observation_space
            size = int(observation["next_size"].argmax())
            observation, _, terminated, _, info = env.step(action(0.2, -0.4))
            spent += costs[size][1]
            drawn.add((info["step"], size))
            assert info["patch_size"] == SIZES[size] and info["multiply_adds"] == spent
            assert observation["last_size"].tolist() == np.eye(3)[size].tolist()
        assert observation["next_size"].tolist() == [0, 0, 0]  # none is to come

    assert drawn == {(step, size) for step in (2, 3, 4) for size in range(3)}


def test_a_patch_of_the_next_size_is_looked_at(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    """The bottom-right 8x8 pixels are red: all of a patch of 8, a quarter of one of 16."""
    networks = colour_classifier().with_spec(patch_sizes=(8, 16))
    env = GlanceFocusEnv(Task(red_corner_images, networks), EpisodeSpec(reward="increment"))
    corner = {8: (255.0, 0.0), 16: (120 + 135 / 4, 120 - 120 / 4)}

    for sides in ((8, 16), (16, 8), (8, 8)):
        env.reset(options={"patch_sizes": sides, "index": 0})
        for step, side in enumerate(sides, 1):
            *_, info = env.step(action(1, 1))
            seen = red_probability(MEAN, *(corner[each] for each in sides[:step]))
            assert info["label_probability"] == pytest.approx(seen, abs=1e-5)
            assert info["patch_size"] == side and info["top_left_px"].tolist() == [32 - side] * 2


def test_random_patches_of_the_reward_have_the_rows_size(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    """A patch as large as the image leaves no choice: the contrast is 0; with a small one it is not."""
    networks = colour_classifier().with_spec(patch_sizes=(8, 32))
    env = GlanceFocusVectorEnv(Task(red_corner_images, networks), EpisodeSpec(reward_samples=4), num_envs=2)
    env.reset(seed=0, options={"patch_sizes": [[32, 32], [8, 8]]})

    _, reward, *_ = env.step(np.ones((2, 2), np.float32))

    assert reward[0] == pytest.approx(0.0, abs=1e-6) and reward[1] > 0.05


@pytest.mark.parametrize("reward", ["increment", "contrastive"])
def test_rows_are_single_environments(several: FrozenClassifier, scenes: ArrayImages, reward: str) -> None:
    rows, rules = 5, EpisodeSpec(reward=reward)
    vector = GlanceFocusVectorEnv(Task(scenes, several), rules, num_envs=rows)
    singles = [GlanceFocusEnv(Task(scenes, several), rules) for _ in range(rows)]
    first, _ = vector.reset(seed=7)
    observations = [env.reset(seed=7 + row)[0] for row, env in enumerate(singles)]
    actions = np.random.default_rng(0).uniform(-1, 1, (3, rows, 2)).astype(np.float32)

    for row in range(rows):
        assert np.array_equal(first["next_size"][row], observations[row]["next_size"])
    assert len({tuple(sizes) for sizes in first["next_size"].tolist()}) > 1
    for chosen in actions:
        together, rewards, *_, info = vector.step(chosen)
        for row, env in enumerate(singles):
            alone, gain, *_, told = env.step(chosen[row])
            for key, value in alone.items():
                assert np.allclose(together[key][row], value, atol=1e-4), key
            assert rewards[row] == pytest.approx(gain, abs=1e-4)
            assert (info["patch_size"][row], info["multiply_adds"][row]) == (told["patch_size"], told["multiply_adds"])


def test_images_and_sizes_do_not_depend_on_the_reward(several: FrozenClassifier, scenes: ArrayImages) -> None:
    def seen(reward: str) -> list[tuple[int, int]]:
        env = _env(several, scenes, reward=reward, reward_samples=3)
        env.reset(seed=4)
        found = []
        for _ in range(3):
            for _ in range(3):
                *_, info = env.step(action(0, 0))
                found.append((info["index"], info["patch_size"]))
            env.reset()
        return found

    assert seen("increment") == seen("contrastive")


def test_one_size_is_as_before(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    """No keys and no random numbers more, written either way."""
    plain, same = (
        GlanceFocusVectorEnv(Task(scenes, classifier.with_spec(**sizes)), EpisodeSpec(), num_envs=3)
        for sizes in ({}, {"patch_sizes": (48,)})
    )

    one, other = plain.reset(seed=3), same.reset(seed=3)

    assert list(one[0]) == ["features", "hidden", "locations", "progress"]
    for key in one[0]:
        assert np.array_equal(one[0][key], other[0][key])
    assert np.array_equal(one[1]["index"], other[1]["index"])


def test_an_environment_continues_with_its_sizes(several: FrozenClassifier, scenes: ArrayImages) -> None:
    first, second = (GlanceFocusVectorEnv(Task(scenes, several), EpisodeSpec(), num_envs=4) for _ in range(2))
    first.reset(seed=0)
    first.step(np.zeros((4, 2), np.float32))
    second.load_state_dict(first.state_dict())

    for _ in range(6):  # across the end of the episode
        (one, *_, told), (other, *_, also) = (env.step(np.full((4, 2), 0.3, np.float32)) for env in (first, second))
        assert all(np.array_equal(one[key], other[key]) for key in one)
        assert np.array_equal(told["patch_size"], also["patch_size"])


@expected_checker_warnings
@pytest.mark.parametrize("size_action", [False, True])
def test_checkers_are_content(several: FrozenClassifier, scenes: ArrayImages, size_action: bool) -> None:
    env = _env(several, scenes, size_action=size_action)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not wrapped in an `EnvSpec`|.*spec is None|.*env.spec")
        check_env(env, skip_render_check=True)
    check_env_for_sb3(env, skip_render_check=True)


def test_pictures_show_patches_in_their_size(several: FrozenClassifier, scenes: ArrayImages) -> None:
    shapes = set()
    for side in SIZES:
        env = GlanceFocusEnv(Task(scenes, several), EpisodeSpec(), render_mode="rgb_array")
        env.reset(seed=0, options={"patch_sizes": side})
        env.step(action(0.9, 0.9))
        frame = env.render()
        assert frame is not None
        shapes.add(frame.shape)
        assert env.dynamics.trace.top_left_px[0, 1].tolist() == [int(0.95 * (96 - side)), int(0.95 * (128 - side))]
    assert len(shapes) == 1


def test_the_embedded_task_has_sizes_by_one_argument() -> None:
    env = gymnasium.make(SIGNS, patch_sizes=(32, 48, 64), num_scenes=4)
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

    sides = [env.step(action(0, 0, size))[4]["patch_size"] for size in (-1.0, 0.0, 1.0)]

    assert sides == [24, 32, 48]
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
    vector = GlanceFocusVectorEnv(Task(scenes, several), EpisodeSpec(), num_envs=2)
    with pytest.raises(ValueError, match=r"or an array of \(2, 3\)"):
        vector.reset(options={"patch_sizes": [[24, 24]]})
    with pytest.raises(ValueError, match="leave the option out: the agent chooses the sizes"):
        _env(several, scenes, size_action=True).reset(options={"patch_sizes": 24})


def test_rules_about_sizes_need_several(
    classifier: FrozenClassifier, several: FrozenClassifier, scenes: ArrayImages
) -> None:
    with pytest.raises(ValueError, match=r"size_action, but all patches have one size; pass patch_sizes"):
        _env(classifier, scenes, size_action=True)
    with pytest.raises(ValueError, match="observe holds 'next_size', but all patches have one size; leave it out"):
        _env(classifier, scenes, observe=("features", "next_size"))
    with pytest.raises(ValueError, match="observe holds 'next_size', but size_action lets the agent choose it"):
        _env(several, scenes, observe=("features", "next_size"), size_action=True)
    with pytest.raises(ValueError, match="patch_size=128 exceeds the 96x128 image; pass a smaller patch_size"):
        Task(scenes, several.with_spec(patch_sizes=(32, 128)))
    with pytest.raises(ValueError, match=r"pass one whose actions are Box\(-1, 1, \(2,\)\)"):
        GridAction(_env(several, scenes, size_action=True))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"step_cost": "looks"}, "step_cost='looks'; pass a price of 0 or more, or 'multiply_adds'"),
        ({"step_cost": "multiply_adds"}, "price=None with step_cost='multiply_adds'; pass a price above 0"),
        ({"step_cost": "multiply_adds", "price": 0}, "price=0 with step_cost='multiply_adds'; pass a price above 0"),
        ({"step_cost": 0.1, "price": 0.1}, "price=0.1 with step_cost=0.1; leave it out, step_cost is the price"),
    ],
)
def test_prices_that_make_no_sense_are_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpisodeSpec(**rules)
