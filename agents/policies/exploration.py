"""Exploration: the standard deviation of actions around their mean, in the paper's [0, 1] units of locations."""

from __future__ import annotations

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise

DEFAULT_STD = 0.15
"""Of a new policy, and of the action noise of algorithms that need it; A.2 takes 0.1."""


class ActionStdSchedule(BaseCallback):
    """Lowers the standard deviation geometrically, from rollout to rollout.

    It has no effect on algorithms whose standard deviation is learned or which have none.

    Args:
        first: the standard deviation at the start, above 0.
        last: at the end, above 0.
        total_steps: environment steps from start to end.
    """

    def __init__(self, first: float, last: float, total_steps: int) -> None:
        super().__init__()
        self._first, self._last, self._total_steps = first, last, total_steps

    def _on_rollout_start(self) -> None:
        progress = min(1.0, self.model.num_timesteps / self._total_steps)
        set_std(self.model, self._first * (self._last / self._first) ** progress)

    def _on_step(self) -> bool:
        return True


def set_std(agent: BaseAlgorithm, std: float) -> None:
    """Sets the standard deviation of the policy, where it is fixed, and that of the action noise, where there is one.

    Args:
        agent: the agent.
        std: of the location, in [0, 1] units.
    """
    setter = getattr(agent.policy, "set_std", None)
    if setter is not None:
        setter(std)
    noise = getattr(agent, "action_noise", None)
    for single in noise.noises if isinstance(noise, VectorizedActionNoise) else [noise]:
        if isinstance(single, NormalActionNoise):
            single._sigma = np.full_like(single._sigma, in_action_units(std))


def action_noise(std: float, shape: tuple[int, ...]) -> NormalActionNoise:
    """Noise of a standard deviation for actions of a shape."""
    return NormalActionNoise(np.zeros(shape), np.full(shape, in_action_units(std)))


def in_action_units(std: float) -> float:
    """Actions span twice the range of locations."""
    return 2.0 * std
