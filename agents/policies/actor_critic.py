"""The patch proposal network as an actor-critic policy of Stable-Baselines3."""

from __future__ import annotations

import math
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.policies.extractor import GlimpseExtractor, Observation, extractor_arguments
from agents.policies.initial_looks import start_at_initial_looks

_SLOPE_ENDS, _PULL = 1.5, 0.1  # |pre-activation| from which on tanh is flat (0.905), and the penalty's coefficient
_FIRST_STOP_MEAN, _DECISION_STD = -0.9, 0.5  # in the units of actions: at first one decision in thirty is to stop
_UNNAMED = ("row", "col", "stop")  # of action spaces that a wrapper has replaced


class _Pull(torch.autograd.Function):
    """The identity, whose gradient has that of a penalty added: half the squared excess, averaged over the batch."""

    @staticmethod
    def forward(ctx: Any, preactivation: Tensor, pull: float) -> Tensor:
        """(B, A), unchanged."""
        ctx.save_for_backward(preactivation)
        ctx.pull = pull
        return preactivation.view_as(preactivation)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """(B, A), with the penalty's part."""
        z: Tensor = ctx.saved_tensors[0].detach()
        excess = z - z.clamp(-_SLOPE_ENDS, _SLOPE_ENDS)
        return gradient + (ctx.pull / len(z)) * excess, None


class PulledTanh(nn.Module):
    """tanh that pulls its input back to where it has a slope while it is trained.

    A mean in the flat part of tanh has next to no gradient, so that a policy whose mean gets there, in a corner of the
    image, stays there. Works with any algorithm, as no loss has to know of it. Not in the paper.

    Args:
        pull: coefficient of the penalty, 0 or more.
    """

    def __init__(self, pull: float = _PULL) -> None:
        super().__init__()
        self.pull = pull

    def forward(self, preactivation: Tensor) -> Tensor:
        """(B, A) -> (B, A) in [-1, 1]."""
        if self.training and torch.is_grad_enabled():
            preactivation = _Pull.apply(preactivation, self.pull)
        return torch.tanh(preactivation)


class SquashedMeanGaussian(ActorCriticPolicy):
    """The patch proposal network as an actor-critic of SB3: a Gaussian with squashed mean and fixed deviation (A.2).

    Where the environment has a stop action or a size action, further components decide on them. Their standard
    deviation is fixed, too, so that every decision's probability keeps a gradient. The initial mean of the stop is
    below 0, so that a new policy rarely stops, that of the size in the middle. Not in the paper.

    Args:
        std: standard deviation of the location in the paper's [0, 1] units; A.2 takes 0.1.
        pull: how strongly `PulledTanh` pulls the mean back in training; 0 for not at all, as in the paper.
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
        std: float = 0.1,
        pull: float = _PULL,
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
        self._pull = pull  # before `_build`
        super().__init__(*args, **{**kwargs, **ours})
        self.set_std(std)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        assert isinstance(self.action_net, nn.Linear)
        nn.init.zeros_(self.action_net.bias)
        num_steps = getattr(self.features_extractor, "num_steps", 0) if self._keeps_step_bias else 0
        start_at_initial_looks(self.action_net, num_steps)
        names = getattr(self.action_space, "names", _UNNAMED)
        for bias, name in zip(self.action_net.bias, names, strict=False):
            if name == "stop":
                nn.init.constant_(bias, math.atanh(_FIRST_STOP_MEAN))
        self.action_net = nn.Sequential(self.action_net, PulledTanh(self._pull))
        log_std = self.log_std.detach().clone()
        del self.log_std
        self.register_buffer("log_std", log_std)  # not a parameter: TRPO differentiates all parameters

    def set_std(self, std: float) -> None:
        """Sets the location's standard deviation, in the paper's [0, 1] units."""
        self.log_std[:2] = math.log(2.0 * std)  # actions span twice the locations' range
        self.log_std[2:] = math.log(_DECISION_STD)


class GlimpsePolicy(SquashedMeanGaussian, MultiInputActorCriticPolicy):
    """`SquashedMeanGaussian` without memory: it decides from the present observation alone.

    Args:
        *args: see `SquashedMeanGaussian`.
        **kwargs: likewise.
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
