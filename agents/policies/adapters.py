"""What others bring as a policy, as a `LocationPolicy`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from agents.policies.deterministic import DeterministicPolicy
from agents.policies.protocol import LocationPolicy
from classifiers.networks.glimpse import View
from gfnet_env.actions import to_location
from gfnet_env.observation import DEFAULT_OBSERVATION, observation_keys, observe

AnyPolicy = LocationPolicy | BaseAlgorithm | BasePolicy | Callable[[dict[str, np.ndarray]], Any]
"""A policy, a model of Stable-Baselines3 or its policy, or a callable from observations to actions, of B rows each."""


class ObservationPolicy:
    """A callable from observations to actions as a `LocationPolicy`; what it costs is not counted.

    Args:
        act: takes the default observation of B rows, arrays by name, and returns (B, A) actions in [-1, 1], (row, col)
            first.
        num_sizes: K patch sizes.
    """

    multiply_adds = 0

    def __init__(self, act: Callable[[dict[str, np.ndarray]], Any], num_sizes: int) -> None:
        self._act = act
        self.observation_keys = observation_keys(DEFAULT_OBSERVATION, num_sizes, size_action=False)

    def __call__(self, view: View, state: Any) -> tuple[Tensor, Any]:
        """Decides where to look, as `LocationPolicy`."""
        seen = {key: value.cpu().numpy() for key, value in observe(view, self.observation_keys).items()}
        action = torch.as_tensor(self._act(seen), dtype=torch.float32)
        if action.ndim != 2 or action.shape[0] != len(view.step) or action.shape[1] < 2:
            raise ValueError(
                f"the policy returned actions of shape {tuple(action.shape)} for {len(view.step)} observations; return "
                "(row, col) in [-1, 1] for each"
            )
        return to_location(action).to(view.step.device), state


def as_location_policy(policy: AnyPolicy, num_sizes: int = 1) -> LocationPolicy:
    """Adapts a policy to the protocol of evaluation.

    Args:
        policy: see `AnyPolicy`.
        num_sizes: K patch sizes.

    Returns:
        The policy itself if it is a `LocationPolicy`.

    Raises:
        ValueError: if it is none of them, or it is unknown where its actions look.
    """
    if isinstance(policy, BaseAlgorithm | BasePolicy):
        return DeterministicPolicy(policy)
    if hasattr(policy, "observation_keys"):
        return policy  # type: ignore[return-value]  # so it says
    if not callable(policy):
        raise ValueError(
            f"a {type(policy).__name__} is no policy; pass a model of Stable-Baselines3, a LocationPolicy, or a "
            "callable from observations to actions"
        )
    return ObservationPolicy(policy, num_sizes)
