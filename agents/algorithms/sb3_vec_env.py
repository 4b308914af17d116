"""Adapters of Gymnasium vector environments to Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten_space
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn


class SB3VecEnv(VecEnv):
    """SB3's `VecEnv` around any Gymnasium `VectorEnv` in SAME_STEP mode.

    On the last step of an episode, `infos[i]["terminal_observation"]` is the last observation before the reset, and the
    other entries of `infos[i]` belong to the finished episode.

    Args:
        env: the environment.

    Raises:
        ValueError: if its autoreset mode is another.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"autoreset_mode is {mode.name if isinstance(mode, AutoresetMode) else mode}; make the environment "
                "with autoreset_mode='SAME_STEP'"
            )
        self.env = env
        self.render_mode = env.render_mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> VecEnvObs:
        """Starts new episodes in all rows."""
        seeds = list(self._seeds) if any(seed is not None for seed in self._seeds) else None
        observation, info = self.env.reset(seed=seeds)  # type: ignore[arg-type]  # narrower than Gymnasium's vector environments take
        self.reset_infos = _rows(info, self.num_envs)
        self._reset_seeds()
        return cast(VecEnvObs, observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Stores the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps every row; finished ones start new episodes."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        done = terminated | truncated
        rows: list[dict[str, Any]] = _rows(info, self.num_envs)
        if done.any():
            final_rows = _rows(info["final_info"], self.num_envs)
            for index in np.flatnonzero(done).tolist():
                rows[index] = {**final_rows[index], "terminal_observation": info["final_obs"][index]}
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
        """The environment's attribute, once for each row."""
        owner = self.env if hasattr(self.env, attr_name) else self.env.unwrapped
        return [getattr(owner, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the environment; the rows share it."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the environment once; every row gets its result."""
        owner = self.env if hasattr(self.env, method_name) else self.env.unwrapped
        result = getattr(owner, method_name)(*args, **kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Always false: the rows have no wrappers of their own."""
        return [False for _ in self._get_indices(indices)]


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
        """See `SB3VecEnv.step_wait`; observations are (B, n) float32."""
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
    """Gymnasium's dict of arrays as SB3's list of dicts."""
    keys = [
        key for key in info if not key.startswith("_") and f"_{key}" in info and key not in ("final_obs", "final_info")
    ]
    return [{key: info[key][row] for key in keys if info[f"_{key}"][row]} for row in range(num_envs)]
