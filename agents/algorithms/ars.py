"""Augmented random search on vector environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib import ARS
from sb3_contrib.ars.policies import ARSPolicy
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from agents.policies.extractor import GlimpseExtractor, extractor_arguments


class VectorARS(ARS):
    """ARS that counts each environment step once; sb3-contrib's counts it once per environment."""

    def _trigger_callback(
        self, _locals: dict[str, Any], _globals: dict[str, Any], callback: BaseCallback, n_envs: int
    ) -> None:
        super()._trigger_callback(_locals, _globals, callback, 1)  # SB3 calls it once for each environment


class GlimpseARSPolicy(ARSPolicy):
    """The patch proposal network, its weights searched at random.

    Args:
        observation_space: the environment's.
        action_space: the environment's.
        extractor: arguments of `GlimpseExtractor`, or a key of `PROPOSAL_NETWORKS`.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        extractor: dict[str, Any] | str | None = None,
    ) -> None:
        self._extractor = extractor_arguments(extractor)
        super().__init__(observation_space, action_space, net_arch=[])
        last = self.action_net[0]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.bias)  # the first patches are at the image's center

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """The patch proposal network's; SB3 calls this while it builds the policy."""
        assert isinstance(self.observation_space, spaces.Dict)
        return GlimpseExtractor(self.observation_space, **self._extractor)

    def load_from_vector(self, vector: np.ndarray) -> None:
        """Sets all weights from one vector; each gets memory of its own, so that it can be saved."""
        super().load_from_vector(vector)
        for parameter in self.parameters():
            parameter.data = parameter.data.clone()

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "extractor": self._extractor,
        }
