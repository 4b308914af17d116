"""Adapters of Gymnasium vector environments to Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten_space
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from gfnet_env import GlanceFocusTorchVectorEnv

_BY_ROW = ("np_random", "np_random_seed")  # attributes that hold a value for each row


class SB3VecEnv(VecEnv):
    """SB3's `VecEnv` around any Gymnasium `VectorEnv` in SAME_STEP mode.

    It behaves as SB3's `DummyVecEnv` of as many single environments, except where the rows share one attribute: methods
    are called once for all rows and can't be called, and attributes can't be set, for some rows alone.

    Args:
        env: the environment.

    Raises:
        ValueError: if its autoreset mode is another, or it is one of tensors.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        if isinstance(env.unwrapped, GlanceFocusTorchVectorEnv):
            raise ValueError(
                "Stable-Baselines3 reads arrays, and the environment was made with array='torch'; leave it out"
            )
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"autoreset_mode is {mode.name if isinstance(mode, AutoresetMode) else mode}; make the environment "
                "with autoreset_mode='SAME_STEP'"
            )
        self.env = env
        self._shared_options: dict[str, Any] | None = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Sets the options of the next reset: a dict goes to the vector environment as it is, a list has one a row."""
        super().set_options(options)
        self._shared_options = options if isinstance(options, dict) else None

    def reset(self) -> VecEnvObs:
        """Starts new episodes in all rows."""
        seeds: Any = self._seeds if any(seed is not None for seed in self._seeds) else None
        if self._shared_options or not any(self._options):
            observation, info = self.env.reset(seed=seeds, options=self._shared_options)
            self.reset_infos = _rows(info, self.num_envs)
        else:
            for row, options in enumerate(self._options):
                mask = np.arange(self.num_envs) == row
                observation, info = self.env.reset(seed=seeds, options={**options, "reset_mask": mask})
                self.reset_infos[row] = _rows(info, self.num_envs)[row]
        self._reset_seeds()
        self.set_options()
        return cast(VecEnvObs, observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Stores the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps every row; finished ones start new episodes.

        Returns:
            observation, reward (B,) float32, done (B,) bool and B infos. Where an episode is over, the info is that of
            its last step, with its last observation as `terminal_observation`; that of the new one is in `reset_infos`.
        """
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        rows = _rows(info, self.num_envs)
        for index in np.flatnonzero(done).tolist():
            new = self.reset_infos[index] = rows[index]
            rows[index] = {**new.pop("final_info"), "terminal_observation": new.pop("final_obs")}
            if "episode" in new:  # from Gymnasium's `RecordEpisodeStatistics`
                rows[index]["episode"] = new.pop("episode")
        for row, was_cut_off in zip(rows, (truncated & ~terminated).tolist(), strict=True):
            row["TimeLimit.truncated"] = was_cut_off
        return observation, reward.astype(np.float32), done, rows

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One picture for each row."""
        return self.env.render() or [None] * self.num_envs  # type: ignore[return-value]  # Gymnasium leaves the type open

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of each row: its own space, generator or seed; all others are the rows' in common."""
        if attr_name in ("observation_space", "action_space"):
            attr_name = f"single_{attr_name}"
        value = getattr(self._owner(attr_name), attr_name)
        return [value[row] if attr_name in _BY_ROW else value for row in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the environment, for all rows.

        Raises:
            ValueError: if `indices` leaves rows out.
        """
        self._check_all_rows(indices)
        setattr(self._owner(attr_name), attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the environment once, for all rows; every row gets its result.

        Raises:
            ValueError: if `indices` leaves rows out.
        """
        self._check_all_rows(indices)
        return [getattr(self._owner(method_name), method_name)(*args, **kwargs)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Whether the vector environment is wrapped in a class, the same for each row."""
        return [any(isinstance(layer, wrapper_class) for layer in self._layers()) for _ in self._get_indices(indices)]

    def _layers(self) -> Iterator[VectorEnv[Any, Any, Any]]:
        """The environment's wrappers, from the outside, and the environment itself."""
        layer = self.env
        yield layer
        while isinstance(layer, VectorWrapper):
            layer = layer.env
            yield layer

    def _owner(self, name: str) -> VectorEnv[Any, Any, Any]:
        return next((layer for layer in self._layers() if hasattr(layer, name)), self.env.unwrapped)

    def _check_all_rows(self, indices: VecEnvIndices) -> None:
        if set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise ValueError(f"indices={indices!r}, but all {self.num_envs} rows share one environment; leave it out")


class FlatVecEnv(VecEnvWrapper):
    """Concatenates the parts of Dict observations, sorted by name, for algorithms that need flat observations.

    Gymnasium's own wrapper does not support SAME_STEP vector environments.

    Args:
        venv: an SB3 `VecEnv` with Dict observations.

    Attributes:
        parts: the space of the Dict observations.
    """

    def __init__(self, venv: VecEnv) -> None:
        assert isinstance(venv.observation_space, spaces.Dict)
        self.parts = venv.observation_space
        super().__init__(venv, flatten_space(venv.observation_space))

    def reset(self) -> VecEnvObs:
        """Starts new episodes in all rows; returns (B, n) float32 observations."""
        return _flat(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        """As `SB3VecEnv.step_wait`, with observations (B, n) float32."""
        observation, reward, done, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                last = {key: value[None] for key, value in info["terminal_observation"].items()}
                info["terminal_observation"] = _flat(last)[0]
        return _flat(observation), reward, done, infos


def _flat(observation: Any) -> np.ndarray:
    parts = [observation[key] for key in sorted(observation)]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _rows(info: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Gymnasium's dict of arrays as SB3's list of dicts; `_key` says for which rows `key` holds."""
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for key, values in info.items():
        if key.startswith("_"):
            continue
        if isinstance(values, dict):
            values = _rows(values, num_envs)
        holds = info.get(f"_{key}")
        for row in range(num_envs) if holds is None else np.flatnonzero(holds).tolist():
            rows[row][key] = values[row]
    return rows
