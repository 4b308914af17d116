"""Wrappers that change the action space."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from gfnet_env.actions import GridSpace, grid_actions


class GridAction(gymnasium.ActionWrapper[Any, np.int64, np.ndarray]):
    """Places on a square grid as actions, for algorithms that need discrete ones (DQN).

    Args:
        env: an environment whose action is (row, col) in [-1, 1].
        side: places along each axis, 2 or more, borders included.

    Raises:
        ValueError: if the environment has another action space, or the side is below 2.
    """

    def __init__(self, env: gymnasium.Env[Any, np.ndarray], side: int = 9) -> None:
        super().__init__(env)
        _check_grid(env.action_space, side)
        self._places = grid_actions(side)
        self.action_space = GridSpace(side)

    def action(self, action: np.int64) -> np.ndarray:
        """The place with a number, (2,) in [-1, 1]; places are numbered in reading order."""
        place: np.ndarray = self._places[int(action)]
        return place


class VectorGridAction(gymnasium.vector.VectorActionWrapper):
    """`GridAction` for a vector environment.

    Args:
        env: a vector environment whose actions are (row, col) in [-1, 1].
        side: places along each axis, 2 or more, borders included.

    Raises:
        ValueError: if the environment has another action space, or the side is below 2.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any], side: int = 9) -> None:
        super().__init__(env)
        _check_grid(env.single_action_space, side)
        self._places = grid_actions(side)
        self.single_action_space = GridSpace(side)
        self.action_space = batch_space(self.single_action_space, env.num_envs)

    def actions(self, actions: np.ndarray) -> np.ndarray:
        """The places with B numbers, (B, 2) in [-1, 1]."""
        places: np.ndarray = self._places[actions]
        return places


def _check_grid(space: spaces.Space[Any], side: int) -> None:
    if not isinstance(space, spaces.Box) or space.shape != (2,):
        names = getattr(space, "names", space)
        raise ValueError(
            f"the environment's actions are {names}; a grid of places, as dqn and ppo_grid use, takes only (row, col): "
            "leave out stop_action, size_action and other wrappers of actions"
        )
    if side < 2:
        raise ValueError(f"side={side}; pass 2 or more places along each axis")
