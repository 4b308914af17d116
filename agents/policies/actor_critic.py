"""The patch proposal network as an actor-critic policy of Stable-Baselines3."""

from __future__ import annotations

import math
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.policies.extractor import GlimpseExtractor, Observation, extractor_arguments

_FIRST_STOP_MEAN, _DECISION_STD = -0.9, 0.5  # in the units of actions: at first one decision in thirty is to stop
_UNNAMED = ("row", "col", "stop")  # of action spaces that a wrapper has replaced


class SquashedMeanGaussian(ActorCriticPolicy):
    """The patch proposal network as an actor-critic of SB3: a Gaussian with squashed mean and fixed deviation (A.2).

    Where the environment has a stop action or a size action, further components decide on them. Their standard
    deviation is fixed, too, so that every decision's probability keeps a gradient. The initial mean of the stop is
    below 0, so that a new policy rarely stops, that of the size in the middle. Not in the paper.

    Args:
        std: standard deviation of the location in the paper's [0, 1] units; A.2 takes 0.1.
        extractor: arguments of `GlimpseExtractor`, or a key of `PROPOSAL_NETWORKS`.
        *args: of the base class.
        **kwargs: of the base class.

    Raises:
        ValueError: if there is no such key.
    """

    def __init__(
        self, *args: Any, std: float = 0.1, extractor: dict[str, Any] | str | None = None, **kwargs: Any
    ) -> None:
        ours: dict[str, Any] = {
            "net_arch": [],
            "features_extractor_class": GlimpseExtractor,
            "features_extractor_kwargs": extractor_arguments(extractor),
        }
        if kwargs.get("optimizer_class", torch.optim.Adam) is torch.optim.Adam:
            # SB3's epsilon; fused, because A.1's pi has 46 million weights
            ours["optimizer_kwargs"] = {"eps": 1e-5, "fused": True, **(kwargs.get("optimizer_kwargs") or {})}
        super().__init__(*args, **{**kwargs, **ours})
        self.set_std(std)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        assert isinstance(self.action_net, nn.Linear)
        nn.init.zeros_(self.action_net.bias)  # the initial mean is the image's centre
        names = getattr(self.action_space, "names", _UNNAMED)
        for bias, name in zip(self.action_net.bias, names, strict=False):
            if name == "stop":
                nn.init.constant_(bias, math.atanh(_FIRST_STOP_MEAN))
        self.action_net = nn.Sequential(self.action_net, nn.Tanh())
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
