"""The patch proposal network in the policies of algorithms other than PPO."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentMultiInputActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.tqc.policies import MultiInputPolicy as TQCPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import MultiInputPolicy as SACPolicy
from stable_baselines3.td3.policies import MultiInputPolicy as TD3Policy
from torch import Tensor, nn

from agents.policies.actor_critic import (
    SATURATION_PENALTY,
    PenalizedTanh,
    SquashedMeanGaussian,
    start_at_initial_actions,
)
from agents.policies.extractor import GlimpseExtractor


class FlatGlimpseExtractor(BaseFeaturesExtractor):
    """`GlimpseExtractor` for flattened observations, for algorithms that take no others (CrossQ).

    Args:
        observation_space: the flat one.
        parts: the space before `gymnasium.wrappers.FlattenObservation`.
        **arguments: of `GlimpseExtractor`.
    """

    def __init__(self, observation_space: spaces.Box, parts: spaces.Dict, **arguments: Any) -> None:
        extractor = GlimpseExtractor(parts, **arguments)
        super().__init__(observation_space, extractor.features_dim)
        self.extractor = extractor
        self.num_steps = extractor.num_steps
        self.keys = tuple(parts)
        self.parts = parts
        self._shapes = {key: part.shape or () for key, part in parts.items()}  # a Dict space is sorted by key

    def forward(self, flat: Tensor) -> Tensor:
        """(B, total size of the parts) -> (B, features_dim)."""
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        parts = flat.split(sizes, dim=1)
        named = {key: part.unflatten(1, shape) for (key, shape), part in zip(self._shapes.items(), parts, strict=True)}
        vector: Tensor = self.extractor(named)
        return vector


class _StartsAtInitialActions:
    """Makes an untrained actor look where tanh has a slope: where it saturates, the actor would hardly learn."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """The actor with a small last layer; SB3 calls this while it builds the policy."""
        actor = super().make_actor(features_extractor)  # type: ignore[misc]  # a mixin
        last = [module for module in actor.mu.modules() if isinstance(module, nn.Linear)][-1]
        reads_features = last.in_features == actor.features_extractor.features_dim  # no hidden layer between
        with torch.no_grad():
            last.weight.mul_(0.01)
            last.bias.zero_()
        start_at_initial_actions(last, getattr(actor.features_extractor, "num_steps", 0) if reads_features else 0)
        return actor


class GlimpseSACPolicy(_StartsAtInitialActions, SACPolicy):
    """The policy of SAC."""


class GlimpseTD3Policy(_StartsAtInitialActions, TD3Policy):
    """The policy of TD3 and DDPG.

    Args:
        saturation_penalty: of `PenalizedTanh`; 0 for none.
        *args: of the base class.
        **kwargs: of the base class.
    """

    def __init__(self, *args: Any, saturation_penalty: float = SATURATION_PENALTY, **kwargs: Any) -> None:
        self._saturation_penalty = saturation_penalty  # before `make_actor`
        super().__init__(*args, **kwargs)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """The actor with a small last layer and a penalized tanh."""
        actor = super().make_actor(features_extractor)
        actor.mu[-1] = PenalizedTanh(self._saturation_penalty)  # SB3's is a plain tanh
        return actor


class GlimpseTQCPolicy(_StartsAtInitialActions, TQCPolicy):
    """The policy of TQC."""


class GlimpseCrossQPolicy(_StartsAtInitialActions, CrossQPolicy):
    """The policy of CrossQ, for flat observations."""


class GlimpseLSTMPolicy(SquashedMeanGaussian, RecurrentMultiInputActorCriticPolicy):
    """As `GlimpseGRUPolicy`, with the LSTM of sb3-contrib's RecurrentPPO.

    Its arguments are those of `SquashedMeanGaussian`.
    """

    _keeps_step_bias = False
