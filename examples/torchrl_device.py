"""The environment in TorchRL without leaving the device: `array="torch"` as an `EnvBase` (extra `torchrl`).

`examples/torchrl_ppo.py` trains on it with `--device`; its collector, advantages and loss stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Composite, Unbounded
from torchrl.envs import EnvBase

from gfnet_env import GlanceFocusTorchVectorEnv

EXTRA = ("label", "prediction")


class TensorEnv(EnvBase):
    """A `GlanceFocusTorchVectorEnv` as TorchRL expects it: finished rows are reset by their `_reset` mask.

    Args:
        envs: B rows, autoreset `DISABLED`.
    """

    def __init__(self, envs: GlanceFocusTorchVectorEnv) -> None:
        count, device = envs.num_envs, envs.device
        super().__init__(device=device, batch_size=[count])
        self.envs, self.single_observation_space = envs, envs.single_observation_space
        seen: dict[str, Any] = {
            key: Unbounded((count, *space.shape), dtype=torch.from_numpy(space.sample()).dtype, device=device)
            for key, space in envs.single_observation_space.items()
        }
        seen |= {key: Unbounded((count,), dtype=torch.int64, device=device) for key in EXTRA}
        self.observation_spec = Composite(seen, shape=[count])
        self.action_spec = Bounded(-1.0, 1.0, (count, *envs.single_action_space.shape), device=device)
        self.reward_spec = Unbounded((count, 1), device=device)
        ends = {key: Binary(1, shape=(count, 1), dtype=torch.bool, device=device) for key in ("done", "terminated")}
        self.done_spec = Composite(ends, shape=[count])
        self._seed: int | None = None

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        options = dict(kwargs.get("options") or {})
        if tensordict is not None and "_reset" in tensordict.keys():  # noqa: SIM118 - a TensorDict needs `keys`
            options["reset_mask"] = tensordict["_reset"].view(-1)
        seed, self._seed = self._seed, None
        observation, info = self.envs.reset(seed=seed, options=options)
        return self._with_ends(observation, info, self.envs.dynamics.trace.finished.clone())

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        observation, reward, terminated, _, info = self.envs.step(tensordict["action"])
        return self._with_ends(observation, info, terminated).set("reward", reward[:, None])

    def _with_ends(self, observation: dict[str, Any], info: dict[str, Any], ended: torch.Tensor) -> TensorDictBase:
        ends = {"done": ended[:, None], "terminated": ended[:, None].clone()}
        return TensorDict({**observation, **{key: info[key] for key in EXTRA}, **ends}, self.batch_size)

    def _set_seed(self, seed: int | None) -> None:
        self._seed = seed  # of the next reset

    def close(self, **kwargs: Any) -> None:
        """Closes the environment."""
        self.envs.close()
        super().close(**kwargs)
