"""The patch proposal network pi (Section 3.2, Fig. 4), as Stable-Baselines3 policies.

Fig. 4: a 1x1 convolution narrows the feature maps, a fully-connected layer reads them without pooling, a GRU remembers
them, and one linear layer each gives the mean of the location and the state's value.

Differs from the paper: the mean is squashed by tanh into the environment's [-1, 1], which is the paper's sigmoid into
[0, 1] in other units; the classifier's hidden state h^C is read beside the feature maps.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

Observation = dict[str, Tensor]


class GlimpseExtractor(BaseFeaturesExtractor):
    """Feature maps and hidden state to one vector: 1x1 convolution, concatenation, fully-connected layer.

    Args:
        observation_space: the environment's, with `features` (C, h, w) and `hidden` (F_h,).
        conv_channels: channels after the 1x1 convolution; 0 leaves it out (A.1: ResNets and DenseNets).
        units: length of the vector.
    """

    def __init__(self, observation_space: spaces.Dict, conv_channels: int = 32, units: int = 256) -> None:
        super().__init__(observation_space, units)
        channels, height, width = _shape(observation_space["features"])
        (hidden_size,) = _shape(observation_space["hidden"])
        narrow: nn.Module = nn.Identity()
        if conv_channels:
            narrow = nn.Sequential(nn.Conv2d(channels, conv_channels, 1, bias=False), nn.ReLU())
            channels = conv_channels
        self.narrow = narrow
        self.fully_connected = nn.Linear(channels * height * width + hidden_size, units)

    def forward(self, observations: Observation) -> Tensor:
        """Dict of (B, C, h, w) and (B, F_h) -> (B, units)."""
        maps = self.narrow(observations["features"]).flatten(1)
        return torch.relu(self.fully_connected(torch.cat([maps, observations["hidden"]], dim=1)))


def _shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    assert space.shape is not None
    return space.shape


class GlimpsePolicy(MultiInputActorCriticPolicy):
    """Gaussian policy with a squashed mean and a fixed standard deviation (A.2).

    Args:
        std: standard deviation of the location in the paper's [0, 1] units; A.2 takes 0.1.
        extractor: arguments of `GlimpseExtractor`.
        *args: of the base class.
        **kwargs: of the base class.
    """

    def __init__(self, *args: Any, std: float = 0.1, extractor: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self._location_std = std
        ours: dict[str, Any] = {
            "net_arch": [],
            "features_extractor_class": GlimpseExtractor,
            "features_extractor_kwargs": extractor or {},
        }
        super().__init__(*args, **{**kwargs, **ours})
        self.set_std(std)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self._build_output(lr_schedule)

    def _build_output(self, lr_schedule: Schedule) -> None:
        assert isinstance(self.action_net, nn.Linear)
        nn.init.zeros_(self.action_net.bias)  # the first mean is the image's centre
        self.action_net = nn.Sequential(self.action_net, nn.Tanh())
        self.log_std.requires_grad_(False)
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self.optimizer = self.optimizer_class(trained, **{"lr": lr_schedule(1), **self.optimizer_kwargs})

    def set_std(self, std: float) -> None:
        """Sets the standard deviation, in the paper's [0, 1] units."""
        with torch.no_grad():
            self.log_std.fill_(math.log(2.0 * std))  # actions span twice the locations' range

    def mean_action(self, observations: Observation) -> Tensor:
        """The deterministic action, (B, 2) in [-1, 1], by the shortest way through the network."""
        mean: Tensor = self.action_net(self.extract_features(observations))
        return mean


class GlimpseGRUPolicy(GlimpsePolicy):
    """The paper's own pi: as `GlimpsePolicy`, with a GRU of its own between features and outputs.

    Args:
        *args: of the base class.
        **kwargs: of the base class.
    """

    gru: nn.GRUCell

    def _build_output(self, lr_schedule: Schedule) -> None:
        self.gru = nn.GRUCell(self.features_dim, self.features_dim)
        super()._build_output(lr_schedule)

    def initial_state(self, batch_size: int) -> Tensor:
        """(B, units) zeros: the state before the glance."""
        return torch.zeros(batch_size, self.features_dim, device=self.device)

    def recur(self, observations: Observation, state: Tensor, episode_start: Tensor) -> Tensor:
        """One step of the GRU.

        Args:
            observations: of B environments.
            state: (B, units) after the step before.
            episode_start: (B,) 1.0 where this is the first observation of an episode, else 0.0.

        Returns:
            (B, units) the new state h^pi.
        """
        features = self.extract_features(observations)
        new_state: Tensor = self.gru(features, state * (1.0 - episode_start)[:, None])
        return new_state

    def outputs(self, state: Tensor) -> tuple[Distribution, Tensor]:
        """The action's distribution and the value (B,) that a state stands for."""
        return self._get_action_dist_from_latent(state), self.value_net(state).flatten()
