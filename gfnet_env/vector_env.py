"""The environment as a native Gymnasium `VectorEnv`: one encoder call per step for all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from gfnet_env.actions import to_decisions
from gfnet_env.dynamics import GlanceFocusDynamics
from gfnet_env.episode import EpisodeSpec
from gfnet_env.image_order import ImageOrder
from gfnet_env.rendering import check_render_mode, render_rows
from gfnet_env.saved_rows import generator_states, load_generator_states, of_shape
from gfnet_env.spaces import action_space, observation_space
from gfnet_env.tasks import Task

Observation = dict[str, np.ndarray]


class GlanceFocusVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """Where to look next, on B images at once.

    Row i behaves as `GlanceFocusEnv` seeded with `seed + i`; see there for observations, actions, rewards and infos.

    Args:
        task: images and classifier.
        episode: the rules.
        num_envs: number B of rows.
        autoreset_mode: what a finished row does. `NEXT_STEP`: its next step resets it, whatever the action.
            `SAME_STEP`: it is reset at once, its last observation and info are in `info["final_obs"]` and
            `info["final_info"]`. `DISABLED`: it waits for `reset(options={"reset_mask": mask})`; stepping it raises.
        render_mode: None or `"rgb_array"`.

    Raises:
        ValueError: if an argument is out of range or the parts don't fit.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium's own convention
        "render_modes": ["rgb_array"],
        "render_fps": 2,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        task: Task,
        episode: EpisodeSpec,
        *,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}; pass 1 or more")
        check_render_mode(render_mode)
        self.task = task
        self.dynamics = GlanceFocusDynamics(task.classifier, task.source, episode, num_envs)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        networks = self.dynamics.classifier
        self.single_action_space = action_space(stop_action=episode.stop_action)
        self.single_observation_space = observation_space(
            networks.feature_shape(), networks.hidden_size, networks.spec.num_glimpses, episode.observe
        )
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._rngs: list[np.random.Generator] = [seeding.np_random()[0] for _ in range(num_envs)]
        self._order = ImageOrder(len(task.source), num_envs)
        self._finished = np.ones(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts new episodes.

        Args:
            seed: of the rows' generators: row i gets `seed + i`, or the i-th of a sequence; None keeps them running.
            options: `"index"`: one image index or B of them, instead of random ones; `"reset_mask"`: (B,) bool, only
                these rows start anew.

        Returns:
            The observation after the glance, and info.

        Raises:
            ValueError: if an option is unknown or does not fit.
        """
        rows = np.flatnonzero(self._reset_mask(options))
        seeds = _row_seeds(seed, self.num_envs)
        for row in rows:
            if seeds[row] is not None:
                self._rngs[row] = seeding.np_random(seeds[row])[0]
                self._order.forget(int(row))
        self._begin(rows, options)
        self._finished[rows] = False
        return self.dynamics.observation(), self._info(self._is_in(rows))

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Looks at one patch in every row, or stops there.

        Args:
            actions: (B, 2) in [-1, 1], (row, col), or with a stop action (B, 3), (row, col, stop).

        Returns:
            observation, reward (B,) float64, terminated (B,) bool, truncated (B,) all false, info.

        Raises:
            ValueError: if an action is NaN or outside the space.
            RuntimeError: before the first reset, and for a finished row if `autoreset_mode` is `DISABLED`.
        """
        waiting = self._finished.copy()
        if not self.dynamics.trace.steps.all():
            raise RuntimeError("step() was called before reset(); call reset() first")
        if waiting.any() and self.autoreset_mode is not AutoresetMode.NEXT_STEP:
            raise RuntimeError(
                f"rows {np.flatnonzero(waiting).tolist()} have finished; "
                "call reset(options={'reset_mask': mask}) first"
            )
        reward, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool)
        decisions = to_decisions(actions, stop_action=self.dynamics.spec.stop_action)
        going = np.flatnonzero(~waiting)
        if len(going):
            rngs = [self._rngs[row] for row in going]
            reward[going], terminated[going] = self.dynamics.advance(going, decisions.of(going), rngs)
        self._finished = terminated.copy()
        if waiting.any():
            self._begin(np.flatnonzero(waiting))
        final: dict[str, Any] = {}
        if terminated.any() and self.autoreset_mode is AutoresetMode.SAME_STEP:
            final = self._final(terminated)
            self._begin(np.flatnonzero(terminated))
            self._finished[:] = False
        info = self._info(np.ones(self.num_envs, dtype=bool))
        return self.dynamics.observation(), reward, terminated, np.zeros(self.num_envs, dtype=bool), {**info, **final}

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next, for `load_state_dict`.

        Returns:
            Tensors, numbers and strings only, so that `torch.load(..., weights_only=True)` reads it. Images are not
            included, only their indices; so the source must return the same image for an index every time.
        """
        return {
            "generators": generator_states(self._rngs),
            "order": self._order.state_dict(),
            "finished": torch.from_numpy(self._finished.copy()),
            "episodes": self.dynamics.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where another environment of the same making was when its `state_dict` was called.

        Call `step` next, not `reset`.

        Args:
            state: what `state_dict` returned.

        Raises:
            ValueError: if it belongs to an environment with other rules, networks or number of rows.
        """
        load_generator_states(self._rngs, state["generators"])
        self._order.load_state_dict(state["order"])
        self._finished = of_shape(state["finished"], self._finished.shape).numpy().copy()
        self.dynamics.load_state_dict(state["episodes"])
        self.dynamics.expect(self._order.upcoming)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One (H, W, 3) uint8 picture for each row, see `gfnet_env.rendering`; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(render_rows(self.dynamics, range(self.num_envs)))

    def _begin(self, rows: np.ndarray, options: dict[str, Any] | None = None) -> None:
        self.dynamics.begin(rows, self._indices(rows, options))
        self.dynamics.expect(self._order.upcoming)

    def _indices(self, rows: np.ndarray, options: dict[str, Any] | None) -> np.ndarray:
        size = len(self.task.source)
        if options is None or "index" not in options:
            return self._order.take(rows, [self._rngs[row] for row in rows])
        chosen = np.broadcast_to(np.asarray(options["index"], dtype=np.int64), (self.num_envs,))[rows]
        if ((chosen < 0) | (chosen >= size)).any():
            raise ValueError(f"index={options['index']} is outside the {size} images; pass 0 to {size - 1}")
        return np.array(chosen)

    def _reset_mask(self, options: dict[str, Any] | None) -> np.ndarray:
        unknown = set(options or {}) - {"index", "reset_mask"}
        if unknown:
            raise ValueError(f"reset options {sorted(unknown)} are unknown; pass 'index' or 'reset_mask'")
        if options is None or options.get("reset_mask") is None:
            return np.ones(self.num_envs, dtype=bool)
        mask = np.asarray(options["reset_mask"])
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(
                f"reset_mask of shape {mask.shape}, dtype {mask.dtype}; pass ({self.num_envs},) bool, at least one true"
            )
        return mask

    def _is_in(self, rows: np.ndarray) -> np.ndarray:
        mask = np.zeros(self.num_envs, dtype=bool)
        mask[rows] = True
        return mask

    def _info(self, mask: np.ndarray) -> dict[str, Any]:
        """Gymnasium's layout: an array and a mask of the rows that it speaks of, for each key."""
        info: dict[str, Any] = {}
        for key, values in self.dynamics.info().items():
            info[key], info[f"_{key}"] = values, mask.copy()
        return info

    def _final(self, mask: np.ndarray) -> dict[str, Any]:
        observation = self.dynamics.observation()
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(mask):
            final_obs[row] = {key: value[row] for key, value in observation.items()}
        return {
            "final_obs": final_obs,
            "_final_obs": mask.copy(),
            "final_info": self._info(mask),
            "_final_info": mask.copy(),
        }


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    by_name = {known.name: known for known in AutoresetMode} | {known.value: known for known in AutoresetMode}
    if mode not in by_name:
        raise ValueError(f"autoreset_mode={mode!r} is unknown; pass one of {', '.join(m.name for m in AutoresetMode)}")
    return by_name[mode]


def _row_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + row for row in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(f"{len(seed)} seeds for {num_envs} environments; pass one for each, or one number")
    return list(seed)
