"""Actions: places inside the image, decisions, grids; other values are refused and the episode goes on."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES, with_rules
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from properties import examples, holds

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, GridAction, Task, VectorGridAction
from gfnet_env.actions import grid_actions, to_action, to_decisions, to_location

UNIT = st.floats(-1.0, 1.0, width=32)


@examples(40, 300)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_a_step_looks_inside_the_image_or_is_refused(
    count: int, classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    task, episode = with_rules(scenes, classifier, {"reward": "increment", "num_glimpses": 4})
    env = GlanceFocusEnv(task, episode)
    taken = {"looks": 0, "refused": 0}
    env.reset(seed=0)
    shapes = st.one_of(st.just((2,)), arrays.array_shapes(min_dims=0, max_dims=2, max_side=3))
    values = st.one_of(UNIT, st.sampled_from([-1.0, 1.0, np.nextafter(np.float32(1), np.float32(2))]), st.floats())

    @holds(
        count,
        action=st.one_of(arrays.arrays(np.float32, (2,), elements=UNIT), arrays.arrays(float, shapes, elements=values)),
    )
    def check(action: np.ndarray) -> None:
        fits = action.shape == (2,) and bool((np.abs(action.astype(np.float32)) <= 1).all())
        if not fits:
            with pytest.raises(ValueError, match=r"^actions? .*; (pass|clip)"):
                env.step(action)
            taken["refused"] += 1
            return
        _, reward, terminated, truncated, info = env.step(action)
        assert np.isfinite(reward) and not truncated
        assert (info["top_left_px"] >= 0).all() and (info["top_left_px"] <= [96 - 48, 128 - 48]).all()
        taken["looks"] += 1
        if terminated:
            env.reset()

    assert min(taken.values()) >= 3


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((3, 2)), r"\(3, 2\); pass one \(row, col\) for each environment, 2 in all"),
        (np.zeros(2), r"\(2,\); pass one \(row, col\)"),
        (None, "shape"),
        (np.full((2, 2), np.nan), "outside Box"),
    ],
)
def test_actions_that_do_not_fit_a_batch_are_refused(
    classifier: FrozenClassifier, scenes: ArrayImages, actions: Any, message: str
) -> None:
    envs = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=2)
    envs.reset(seed=0)

    with pytest.raises(ValueError, match=message):
        envs.step(actions)
    assert envs.step(np.zeros((2, 2), np.float32))[4]["step"].tolist() == [2, 2]  # the episodes go on


@examples(40, 300)
def test_actions_and_places_are_one_to_one(count: int) -> None:
    @holds(count, values=st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=4))
    def check(values: list[tuple[float, float]]) -> None:
        actions = np.array(values, np.float32)
        location = to_location(torch.from_numpy(actions))

        assert (location >= 0).all() and (location <= 1).all()
        assert np.allclose(location.numpy(), (actions.astype(np.float64) + 1) / 2, atol=1e-7)
        assert np.allclose(to_action(location), actions, atol=2e-7)


@examples(40, 300)
def test_decisions_are_what_the_components_say(count: int) -> None:
    @holds(count, row=st.tuples(UNIT, UNIT, UNIT, UNIT), sizes=st.integers(2, 5))
    def check(row: tuple[float, ...], sizes: int) -> None:
        found = to_decisions(np.array([row], np.float32), 1, ("row", "col", "stop", "size"), sizes)

        assert found.stops.tolist() == [row[2] > 0]
        assert found.size is not None and 0 <= found.size[0] < sizes
        part = 2 / sizes
        assert -1 + part * found.size[0] - 1e-6 <= row[3] <= -1 + part * (found.size[0] + 1) + 1e-6


def test_a_grid_is_in_reading_order_with_the_borders() -> None:
    assert grid_actions(3).tolist() == [[r, c] for r in (-1, 0, 1) for c in (-1, 0, 1)]


def test_grid_actions_look_at_the_place_of_their_number() -> None:
    signs: dict[str, Any] = {"id": "GFNet-SyntheticSigns-v0", "num_scenes": 6, "scenes": SMALL_SCENES}
    single = GridAction(gymnasium.make(**signs), side=5)
    vector = VectorGridAction(gymnasium.make_vec(**signs, num_envs=3), side=2)
    single.reset(seed=0)
    vector.reset(seed=0)

    assert single.step(np.int64(3))[4]["location"].tolist() == [0.0, 0.75]
    info = vector.step(np.array([0, 1, 3]))[4]

    assert info["top_left_px"].tolist() == [[0, 0], [0, 128 - 48], [96 - 48, 128 - 48]]
    assert single.action_space == gymnasium.spaces.Discrete(25)
    assert vector.action_space.contains(np.array([0, 1, 3]))
    with pytest.raises(ValueError, match="side=1"):
        GridAction(single.env, side=1)
    with pytest.raises(ValueError, match=r"Discrete\(25\); a grid of places, .* takes only \(row, col\)"):
        GridAction(single)  # type: ignore[arg-type]  # wrapped twice
