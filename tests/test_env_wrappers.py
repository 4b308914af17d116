"""The environment in other forms."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from conftest import SMALL_SCENES
from gymnasium.utils.env_checker import check_env

from gfnet_env import GridAction, VectorGridAction
from gfnet_env.actions import grid_actions


def _make(**kwargs: object) -> gymnasium.Env:
    return gymnasium.make("GFNet-SyntheticSigns-v0", num_scenes=6, scenes=SMALL_SCENES, **kwargs)


def test_grid_is_in_reading_order_with_the_borders() -> None:
    assert grid_actions(3).tolist() == [[r, c] for r in (-1, 0, 1) for c in (-1, 0, 1)]
    assert grid_actions(9).dtype == np.float32


@pytest.mark.filterwarnings("ignore:.*A Box observation space m..imum value is -?infinity:UserWarning")  # feature maps
def test_grid_action_looks_at_the_place_of_that_number() -> None:
    plain, grid = _make(), GridAction(_make(), side=5)
    for env in (plain, grid):
        env.reset(seed=3)

    expected, by_number = plain.step(np.array([-1.0, 0.5], np.float32)), grid.step(np.int64(3))

    assert expected[4]["top_left_px"].tolist() == by_number[4]["top_left_px"].tolist()
    assert expected[1] == by_number[1]
    assert grid.action_space == gymnasium.spaces.Discrete(25)
    check_env(grid.unwrapped, skip_render_check=True)


def test_vector_grid_action_is_the_same_row_by_row() -> None:
    env = gymnasium.make_vec("GFNet-SyntheticSigns-v0", num_envs=3, num_scenes=6, scenes=SMALL_SCENES)
    grid = VectorGridAction(env, side=2)
    grid.reset(seed=0)

    info = grid.step(np.array([0, 1, 3]))[4]

    assert info["top_left_px"].tolist() == [[0, 0], [0, 128 - 48], [96 - 48, 128 - 48]]
    assert grid.action_space.contains(np.array([0, 1, 3]))


def test_what_is_no_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="side=1; pass 2 or more"):
        GridAction(_make(), side=1)
    with pytest.raises(ValueError, match=r"actions are Discrete\(4\); pass one whose actions are Box"):
        GridAction(GridAction(_make(), side=2))  # type: ignore[arg-type]  # wrapped twice
