"""The environment as a native Gymnasium `VectorEnv`: one encoder call per step for all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from gfnet_env.actions import ActionBox
from gfnet_env.dynamics import GlanceFocusDynamics, to_numpy
from gfnet_env.episode import EpisodeSpec
from gfnet_env.observation import observation_space
from gfnet_env.rendering import check_render_mode, render_rows
from gfnet_env.sampling import Draws, RowDraws, parse_index_option
from gfnet_env.tasks import Task
from gfnet_env.trace import check_shape

Observation = dict[str, np.ndarray]


class BatchedEnv(VectorEnv[Any, Any, Any]):
    """B episodes at once, in tensors on the classifier's device: what both vector environments have in common."""

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
        self.closed = True  # until it stands: before 1.3, Gymnasium closes on deletion also what was never finished
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r}; pass a whole number, 1 or more")
        check_render_mode(render_mode)
        self.task = task
        self.dynamics = GlanceFocusDynamics(task.classifier, task.source, episode, num_envs, task.scale)
        self.num_glimpses, self.observation_keys = self.dynamics.num_glimpses, self.dynamics.observation_keys
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_action_space = ActionBox(episode.action_names)
        self.single_observation_space = observation_space(self.dynamics.classifier, self.dynamics.observation_keys)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._draws = self._make_draws()
        self._finished = np.ones(num_envs, dtype=bool)
        self.steps_taken = 0
        self.closed = False

    def _make_draws(self) -> Draws:
        raise TypeError("BatchedEnv is a base class; make a GlanceFocusVectorEnv instead")

    def _seed(self, rows: np.ndarray, seed: Any) -> None:
        raise TypeError("BatchedEnv is a base class; make a GlanceFocusVectorEnv instead")

    def _reset(self, seed: Any, options: dict[str, Any] | None) -> dict[str, Any]:
        """Starts new episodes; returns `observation` and `info` as tensors."""
        self._check_open("reset")
        mask = self._reset_mask(options)
        chosen = sizes = None
        if options is not None and "index" in options:
            chosen = parse_index_option(options["index"], self.num_envs, len(self.task.source))
        if options is not None and "patch_sizes" in options:
            sizes = self.dynamics.parse_patch_sizes_option(options["patch_sizes"])
        rows = np.flatnonzero(mask)
        if seed is not None:
            self._seed(rows, seed)
        self._begin(rows, None if chosen is None else chosen[rows], None if sizes is None else sizes[rows])
        self._finished[rows] = False
        return {"observation": self.dynamics.observation(), "info": self._info(mask)}

    def _step(self, actions: np.ndarray | Tensor) -> dict[str, Any]:
        """Takes a step; returns `observation`, `reward` (float32), `terminated` and `info` as tensors."""
        self._check_open("step")
        waiting = self._finished.copy()
        if not self.dynamics.trace.steps.all():
            raise RuntimeError("step() was called before reset(); call reset() first")
        if waiting.any() and self.autoreset_mode is not AutoresetMode.NEXT_STEP:
            raise RuntimeError(
                f"rows {np.flatnonzero(waiting).tolist()} have finished; "
                "call reset(options={'reset_mask': mask}) first"
            )
        decisions = self.dynamics.decisions(actions)
        self.steps_taken += int((~waiting).sum())
        reward, terminated = self.dynamics.step(~waiting, decisions, self._draws)
        self._finished = terminated.cpu().numpy().copy()
        if waiting.any():
            self._begin(np.flatnonzero(waiting))
        final: dict[str, Any] = {}
        if self._finished.any() and self.autoreset_mode is AutoresetMode.SAME_STEP:
            final = self._final(self._finished)
            self._begin(np.flatnonzero(self._finished))
            self._finished[:] = False
        info = {**self._info(np.ones(self.num_envs, dtype=bool)), **final}
        observation = self.dynamics.observation()
        return {"observation": observation, "reward": reward.clone(), "terminated": terminated.clone(), "info": info}

    def state_dict(self) -> dict[str, Any]:
        """The whole state, for `load_state_dict`.

        Returns:
            Tensors, numbers and strings, which `torch.load(..., weights_only=True)` reads. Images are included by index
            only, so the source must always return the same image for an index.
        """
        return {
            "draws": self._draws.state_dict(),
            "finished": torch.from_numpy(self._finished.copy()),
            "episodes": self.dynamics.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state; call `step` next, not `reset`.

        Args:
            state: what `state_dict` returned.

        Raises:
            ValueError: if it belongs to an environment with other rules, networks or number of rows.
        """
        if "draws" not in state:
            raise ValueError("the state was saved by an earlier version; train again from the start of the stage")
        self._draws.load_state_dict(state["draws"])
        self._finished = check_shape(state["finished"], self._finished.shape).numpy().copy()
        self.dynamics.load_state_dict(state["episodes"])
        self.task.source.prefetch(self._draws.upcoming)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One (H, W, 3) uint8 picture for each row, see `gfnet_env.rendering`; None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(render_rows(self.dynamics, range(self.num_envs)))

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads that decode images; `close` calls it once."""
        self.task.source.close()

    def _check_open(self, call: str) -> None:
        if self.closed:
            raise RuntimeError(f"{call}() was called on a closed environment; make a new one")

    def _begin(self, rows: np.ndarray, indices: np.ndarray | None = None, sizes: np.ndarray | None = None) -> None:
        """Starts episodes in some rows, on given images with patches of given sizes, or on random ones."""
        self.dynamics.reset(rows, self._draws.images(rows) if indices is None else indices, self._draws, sizes)
        self.task.source.prefetch(self._draws.upcoming)

    def _reset_mask(self, options: dict[str, Any] | None) -> np.ndarray:
        unknown = set(options or {}) - {"index", "patch_sizes", "reset_mask"}
        if unknown:
            raise ValueError(
                f"reset options {sorted(unknown)} are unknown; pass 'index', 'patch_sizes' or 'reset_mask'"
            )
        if options is None or options.get("reset_mask") is None:
            return np.ones(self.num_envs, dtype=bool)
        mask = options["reset_mask"]
        mask = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(
                f"reset_mask of shape {mask.shape}, dtype {mask.dtype}; pass ({self.num_envs},) bool, at least one true"
            )
        return mask

    def _info(self, mask: np.ndarray) -> dict[str, Any]:
        """The infos of some rows, (B,) bool, in Gymnasium's layout."""
        found = self.dynamics.info()
        holds = torch.from_numpy(mask.copy()).to(self.dynamics.device)
        return {name: each for key, values in found.items() for name, each in ((key, values), (f"_{key}", holds))}

    def _final(self, mask: np.ndarray) -> dict[str, Any]:
        final = {"final_obs": self.dynamics.observation(), "final_info": self._info(mask)}
        holds = torch.from_numpy(mask.copy()).to(self.dynamics.device)
        return {**final, "_final_obs": holds, "_final_info": holds}


class GlanceFocusVectorEnv(BatchedEnv):
    """`GlanceFocusEnv` on B images at once.

    Row i behaves like a `GlanceFocusEnv` seeded with `seed + i`; see there for observations, actions, rewards, infos.
    Infos have Gymnasium's layout: an array for each key, and under `_key` which rows it holds for.

    Args:
        task: images and classifier.
        episode: the rules.
        num_envs: number B of rows.
        autoreset_mode: what happens to a finished row. `NEXT_STEP`: its next step resets it, whatever the action.
            `SAME_STEP`: it is reset at once; its last observation and info are in `info["final_obs"]` and
            `info["final_info"]`. `DISABLED`: it waits for `reset(options={"reset_mask": mask})`; stepping it raises.
            Before Gymnasium 1.4, `gymnasium.wrappers.vector.RecordEpisodeStatistics` misses the first step of every
            later episode under `SAME_STEP`; use `NEXT_STEP` with it there.
        render_mode: None or `"rgb_array"`.

    Attributes:
        num_glimpses: longest sequence T, the glance included.
        observation_keys: keys of the observation.
        steps_taken: steps of all rows since the environment was made, resets left out.

    Raises:
        ValueError: if an argument is out of range, or the parts don't fit each other.
    """

    _draws: RowDraws

    def _make_draws(self) -> RowDraws:
        draws = RowDraws(len(self.task.source), self.num_envs)
        for row in range(self.num_envs):
            draws.use(row, *seeding.np_random())
        return draws

    def _seed(self, rows: np.ndarray, seed: int | Sequence[int | None]) -> None:
        seeds = _row_seeds(seed, self.num_envs)
        for row in rows.tolist():
            if (row_seed := seeds[row]) is not None:
                self._draws.use(row, *seeding.np_random(row_seed))

    @property  # type: ignore[override]  # a tuple, as `SyncVectorEnv`'s
    def np_random(self) -> tuple[np.random.Generator, ...]:
        """The rows' generators, which draw the images; children of theirs draw the reward's random patches."""
        return tuple(self._draws.rngs)

    @np_random.setter  # type: ignore[override]  # likewise
    def np_random(self, value: Sequence[np.random.Generator]) -> None:
        if len(value) != self.num_envs:
            raise ValueError(f"{len(value)} generators for {self.num_envs} environments; pass one for each")
        for row, rng in enumerate(value):
            self._draws.use(row, rng)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]  # as `SyncVectorEnv`'s
        """The rows' seeds; -1 for generators that were set."""
        return tuple(self._draws.seeds)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts new episodes.

        Args:
            seed: of the rows' generators: row i gets `seed + i`, or the i-th of a sequence; None continues with the
                present ones.
            options: `"index"`: one image index or B of them; `"patch_sizes"`: patch sizes in pixels, one, T - 1 or
                (B, T - 1) of them; `"reset_mask"`: (B,) bool, resets only these rows. Images and sizes are drawn at
                random otherwise.

        Returns:
            The observation after the glance, and info.

        Raises:
            ValueError: if an option is unknown or does not fit.
            RuntimeError: after `close()`.
        """
        found = to_numpy(self._reset(seed, options))
        return found["observation"], found["info"]

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one patch in every row, or stops there.

        Args:
            actions: (B, 2) in [-1, 1], (row, col), or more components, see `single_action_space.names`.

        Returns:
            observation, reward (B,) float64, terminated (B,) bool, truncated (B,) all false, info.

        Raises:
            ValueError: if there are not B actions, or one is NaN or outside the space.
            RuntimeError: before the first reset, for a finished row if `autoreset_mode` is `DISABLED`, and after
                `close()`.
        """
        found = to_numpy(self._step(actions))
        if "final_obs" in found["info"]:
            found["info"]["final_obs"] = _by_row(found["info"]["final_obs"], found["terminated"])
        truncated = np.zeros(self.num_envs, dtype=bool)
        return found["observation"], found["reward"].astype(np.float64), found["terminated"], truncated, found["info"]


def _by_row(observation: Observation, mask: np.ndarray) -> np.ndarray:
    """Gymnasium's layout of last observations: an object for each row, None where the mask, (B,) bool, is false."""
    rows = np.full(len(mask), None, dtype=object)
    for row in np.flatnonzero(mask):
        rows[row] = {key: value[row] for key, value in observation.items()}
    return rows


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    by_name = {known.name: known for known in AutoresetMode} | {known.value: known for known in AutoresetMode}
    if mode not in by_name:
        raise ValueError(f"autoreset_mode={mode!r} is unknown; pass one of {', '.join(m.name for m in AutoresetMode)}")
    return by_name[mode]


def _row_seeds(seed: int | Sequence[int | None], num_envs: int) -> list[int | None]:
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + row for row in range(num_envs)]
    if not isinstance(seed, Sequence | np.ndarray):
        raise ValueError(f"seed={seed!r}; pass a whole number, one for each environment, or None")
    if len(seed) != num_envs:
        raise ValueError(f"{len(seed)} seeds for {num_envs} environments; pass one for each, or one number")
    return list(seed)
