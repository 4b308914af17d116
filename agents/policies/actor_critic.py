"""The patch proposal network as an actor-critic policy of Stable-Baselines3."""

from __future__ import annotations

import math
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.policies.exploration import DEFAULT_STD, in_action_units
from agents.policies.extractor import GlimpseExtractor, Observation, extractor_arguments

_SLOPE_ENDS = 1.5  # |pre-activation| from which on tanh is flat (0.905)
_R2_STEPS = (0.7548776662466927, 0.5698402909980532)  # 1 / g and 1 / g^2, where g^3 = g + 1
_R2_REACH = 0.6  # largest |action| of an untrained policy: tanh still has a slope there
_FIRST_STOP_MEAN, _DECISION_STD = -0.9, 0.5  # in the units of actions: at first one decision in thirty is to stop
_UNNAMED = ("row", "col", "stop")  # of action spaces that a wrapper has replaced

SATURATION_PENALTY = 0.1
"""Coefficient of `PenalizedTanh` unless another is passed."""


class PenalizedTanh(nn.Module):
    """tanh with a penalty on saturated inputs: half their squared excess over 1.5, averaged over the batch.

    A mean in the flat part of tanh has next to no gradient, so a policy whose mean gets there, in a corner of the
    image, stays there. The penalty is added to the gradient in training, so any algorithm that descends a loss can use
    it. TRPO can't: it ascends an objective, and takes second derivatives; its natural gradient does not need it. Not in
    the paper.

    Args:
        saturation_penalty: coefficient of the penalty, 0 or more.
    """

    def __init__(self, saturation_penalty: float = SATURATION_PENALTY) -> None:
        super().__init__()
        self.saturation_penalty = saturation_penalty

    def forward(self, preactivation: Tensor) -> Tensor:
        """(B, A) -> (B, A) in [-1, 1]."""
        if self.training and preactivation.requires_grad:
            z = preactivation.detach()
            penalty_gradient = (self.saturation_penalty / max(1, len(z))) * (z - z.clamp(-_SLOPE_ENDS, _SLOPE_ENDS))
            preactivation = preactivation.view_as(preactivation)
            preactivation.register_hook(lambda gradient: gradient + penalty_gradient)
        return torch.tanh(preactivation)


def initial_actions(count: int) -> Tensor:
    """Where an untrained policy looks: the center, then places spread over the image.

    The first points of the additive recurrence R2 (Roberts, 2018): each falls where the earlier ones left room.

    Args:
        count: how many, T - 1.

    Returns:
        (count, 2) actions (row, col) in [-0.6, 0.6].
    """
    points = (0.5 + torch.arange(count)[:, None] * torch.tensor(_R2_STEPS)) % 1.0
    return (2.0 * points - 1.0) * _R2_REACH


def start_at_initial_actions(last: nn.Linear, num_steps: int) -> None:
    """Sets the last layer of an actor so that its mean, squashed by tanh, is `initial_actions` at each step.

    Args:
        last: its first two outputs are the location. Its last `num_steps` inputs are the one-hot of the number of
            glimpses, whose weights are thus a bias for every step; with `num_steps` 0, every glimpse is at the center.
        num_steps: T, or 0 if the one-hot is not among the inputs.
    """
    with torch.no_grad():
        last.bias[:2] = 0.0
        if num_steps:
            last.weight[:2, -num_steps:] = 0.0
            last.weight[:2, -num_steps:-1] = torch.atanh(initial_actions(num_steps - 1)).T  # none after T glimpses


class SquashedMeanGaussian(ActorCriticPolicy):
    """The patch proposal network as an actor-critic of SB3: a Gaussian with squashed mean and fixed deviation (A.2).

    Where the environment has a stop action or a size action, further components decide on them. Their standard
    deviation is fixed, too, so that every decision's probability keeps a gradient. The initial mean of the stop is
    below 0, so that a new policy rarely stops, that of the size in the middle. Not in the paper.

    Args:
        std: standard deviation of the location in the paper's [0, 1] units; A.2 takes 0.1.
        saturation_penalty: of `PenalizedTanh`; 0 for none, as in the paper.
        extractor: arguments of `GlimpseExtractor`, or a key of `PROPOSAL_NETWORKS`.
        *args: of the base class.
        **kwargs: of the base class.

    Raises:
        ValueError: if there is no such key.
    """

    _keeps_step_bias = True  # whether the last layer sees the end of the extractor's vector

    def __init__(
        self,
        *args: Any,
        std: float = DEFAULT_STD,
        saturation_penalty: float = SATURATION_PENALTY,
        extractor: dict[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        ours: dict[str, Any] = {
            "net_arch": [],
            "features_extractor_class": GlimpseExtractor,
            "features_extractor_kwargs": extractor_arguments(extractor),
        }
        if kwargs.get("optimizer_class", torch.optim.Adam) is torch.optim.Adam:
            # SB3's epsilon; fused, because A.1's pi has 46 million weights
            ours["optimizer_kwargs"] = {"eps": 1e-5, "fused": True, **(kwargs.get("optimizer_kwargs") or {})}
        self._saturation_penalty = saturation_penalty  # before `_build`
        super().__init__(*args, **{**kwargs, **ours})
        self.set_std(std)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        assert isinstance(self.action_net, nn.Linear)
        nn.init.zeros_(self.action_net.bias)
        num_steps = getattr(self.features_extractor, "num_steps", 0) if self._keeps_step_bias else 0
        start_at_initial_actions(self.action_net, num_steps)
        names = getattr(self.action_space, "names", _UNNAMED)
        for bias, name in zip(self.action_net.bias, names, strict=False):
            if name == "stop":
                nn.init.constant_(bias, math.atanh(_FIRST_STOP_MEAN))
        self.action_net = nn.Sequential(self.action_net, PenalizedTanh(self._saturation_penalty))
        log_std = self.log_std.detach().clone()
        del self.log_std
        self.register_buffer("log_std", log_std)  # not a parameter: TRPO differentiates all parameters

    def set_std(self, std: float) -> None:
        """Sets the location's standard deviation, in the paper's [0, 1] units."""
        self.log_std[:2] = math.log(in_action_units(std))
        self.log_std[2:] = math.log(_DECISION_STD)


class GlimpseActorCriticPolicy(SquashedMeanGaussian, MultiInputActorCriticPolicy):
    """The patch proposal network without memory: it decides from the present observation alone.

    A Gaussian with squashed mean and fixed standard deviation, see `SquashedMeanGaussian` for the arguments `std`,
    `saturation_penalty` and `extractor`.
    """

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self._build_memory()
        self.optimizer = self.optimizer_class(self.parameters(), **{"lr": lr_schedule(1), **self.optimizer_kwargs})

    def _build_memory(self) -> None:
        """Builds what lies between features and outputs; nothing here."""

    def mean_action(self, observations: Observation, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The deterministic action, without computing value or distribution.

        Args:
            observations: of B environments.
            state: what the previous call returned; None after the glance.

        Returns:
            The mean (B, A) in [-1, 1], and the new state, None for a policy without memory.
        """
        return self.action_net(self.extract_features(observations)), state
