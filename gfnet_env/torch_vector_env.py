"""The environment for training on the device: tensors in, tensors out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfnet_env.sampling import BatchDraws
from gfnet_env.vector_env import BatchedEnv


class GlanceFocusTorchVectorEnv(BatchedEnv):
    """`GlanceFocusVectorEnv` in tensors on the classifier's device: `gymnasium.make_vec(ID, array="torch")`.

    Rules, arguments and autoreset modes are those of `GlanceFocusVectorEnv`; what differs:

    - Actions, observations, rewards (float32), ends and infos are tensors on `device`. The spaces are Gymnasium's, and
      their samples arrays.
    - In `SAME_STEP` mode `info["final_obs"]` and `info["final_info"]` are dictionaries of tensors of all B rows, valid
      where the mask `info["_final_obs"]` is true, as in ManiSkill3.
    - One `torch.Generator` draws for all rows, another one the reward's random patches. So a row does not repeat a
      single environment, and a reset takes one seed for all.

    A step waits for the device twice: actions are checked before it, and which rows have ended is read after it.

    Raises:
        ValueError: see `GlanceFocusVectorEnv`.
    """

    _draws: BatchDraws

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self.dynamics.device

    def _make_draws(self) -> BatchDraws:
        return BatchDraws(len(self.task.source), self.num_envs, self.device)

    def _seed(self, rows: np.ndarray, seed: Any) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(
                f"seed={seed!r}; pass one whole number, 0 or more: with array='torch' all rows share a generator"
            )
        self._draws.seed(int(seed))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Starts new episodes, as `GlanceFocusVectorEnv.reset`.

        Args:
            seed: of the generators of all rows; None continues with the present ones.
            options: as there; `"reset_mask"` may be a tensor.

        Returns:
            The observation after the glance, and info.

        Raises:
            ValueError: if an option is unknown or does not fit, or there are several seeds.
            RuntimeError: after `close()`.
        """
        found = self._reset(seed, options)
        return found["observation"], found["info"]

    def step(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]:
        """Takes one patch in every row, or stops there, as `GlanceFocusVectorEnv.step`.

        Args:
            actions: (B, 2) in [-1, 1], (row, col), or more components, see `single_action_space.names`.

        Returns:
            observation, reward (B,) float32, terminated (B,) bool, truncated (B,) all false, info.

        Raises:
            ValueError: if the actions are no tensor, there are not B of them, or one is NaN or outside the space.
            RuntimeError: as there.
        """
        if not isinstance(actions, Tensor):
            raise ValueError(
                f"the actions are a {type(actions).__name__}, but this environment was made with array='torch'; pass a "
                "tensor, or leave array out to use wrappers for NumPy"
            )
        found = self._step(actions)
        terminated = found["terminated"]
        return found["observation"], found["reward"], terminated, torch.zeros_like(terminated), found["info"]
