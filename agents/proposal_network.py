"""The patch proposal network pi (Section 3.2, Fig. 4), as Stable-Baselines3 policies.

Fig. 4: a 1x1 convolution narrows the feature maps, a fully-connected layer reads them without pooling, a GRU remembers
them, and one linear layer each gives the mean of the location and the state's value. A.1 leaves the convolution out for
ResNets and DenseNets and puts two layers instead of one; `PROPOSAL_NETWORKS` holds all variants of Table 6.

Differs from the paper, unless told otherwise: centres of attention over the feature map go into both outputs beside
that layer (`CentresOfAttention`: on the embedded task, far fewer steps to precise looks); the mean is squashed by tanh
into the environment's [-1, 1], which is the paper's sigmoid into [0, 1] in other units, tanh(z / 2) = 2 sigmoid(z) - 1;
the classifier's hidden state h^C is read beside the feature maps.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

Observation = dict[str, Tensor]


class GlimpseExtractor(BaseFeaturesExtractor):
    """Feature maps and hidden state to one vector: convolution, concatenation, fully-connected layers.

    Args:
        observation_space: the environment's, with `features` (C, h, w) and `hidden` (F_h,).
        conv_channels: channels after the convolution; 0 leaves it out (A.1: ResNets and DenseNets).
        units: length of the vector.
        conv_kernel: side of the convolution's kernel, odd.
        first_units: units of a layer before the last one; 0 leaves it out.
        reads_hidden: whether the classifier's hidden state is read too; the paper's pi does not.
        attention_maps: maps of attention over the feature map, whose centres of mass (row, col) are appended to the
            vector; 0 leaves them out, as the paper does. A place learnt by one place's features is known everywhere,
            where a fully-connected layer has to learn each place anew.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        conv_channels: int = 32,
        units: int = 256,
        conv_kernel: int = 1,
        first_units: int = 0,
        reads_hidden: bool = True,
        attention_maps: int = 0,
    ) -> None:
        super().__init__(observation_space, units + 2 * attention_maps)
        channels, height, width = _shape(observation_space["features"])
        (hidden_size,) = _shape(observation_space["hidden"])
        self.attention = CentresOfAttention(channels, height, width, attention_maps) if attention_maps else None
        narrow: nn.Module = nn.Identity()
        if conv_channels:
            convolution = nn.Conv2d(channels, conv_channels, conv_kernel, padding=conv_kernel // 2, bias=False)
            narrow = nn.Sequential(convolution, nn.ReLU())
            channels = conv_channels
        self.narrow = narrow
        self.reads_hidden = reads_hidden
        size = channels * height * width + (hidden_size if reads_hidden else 0)
        first: nn.Module = nn.Identity()
        if first_units:
            first = nn.Sequential(nn.Linear(size, first_units), nn.ReLU())
            size = first_units
        self.first = first
        self.fully_connected = nn.Linear(size, units)

    def forward(self, observations: Observation) -> Tensor:
        """Dict of (B, C, h, w) and (B, F_h) -> (B, units + 2 * attention_maps)."""
        seen = self.narrow(observations["features"]).flatten(1)
        if self.reads_hidden:
            seen = torch.cat([seen, observations["hidden"]], dim=1)
        vector = torch.relu(self.fully_connected(self.first(seen)))
        if self.attention is None:
            return vector
        return torch.cat([vector, self.attention(observations["features"])], dim=1)


class CentresOfAttention(nn.Module):
    """Where a few maps of attention point: the spatial soft arg-max of Levine et al. (2016).

    Args:
        channels: channels C of the feature maps.
        height: their height h.
        width: their width w.
        count: number K of attention maps.
    """

    places: Tensor

    def __init__(self, channels: int, height: int, width: int, count: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, count, 1)
        rows, columns = torch.linspace(-1.0, 1.0, height), torch.linspace(-1.0, 1.0, width)
        self.register_buffer("places", torch.cartesian_prod(rows, columns), persistent=False)  # (h * w, 2)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 2 K), each (row, col) in [-1, 1]."""
        weights = self.score(maps).flatten(2).softmax(dim=2)  # (B, K, h * w)
        centres: Tensor = weights @ self.places  # (B, K, 2)
        return centres.flatten(1)


PROPOSAL_NETWORKS: dict[str, dict[str, Any]] = {
    "fc_1024": {"conv_channels": 0, "first_units": 2048, "units": 1024, "reads_hidden": False},
    "fc_512": {"conv_channels": 0, "first_units": 2048, "units": 512, "reads_hidden": False},
    "fc_256": {"conv_channels": 0, "first_units": 2048, "units": 256, "reads_hidden": False},
    "conv3x3_32": {"conv_channels": 32, "conv_kernel": 3, "units": 256, "reads_hidden": False},
    "conv1x1_64": {"conv_channels": 64, "units": 256, "reads_hidden": False},
    "conv1x1_32": {"conv_channels": 32, "units": 256, "reads_hidden": False},
    "conv1x1_16": {"conv_channels": 16, "units": 256, "reads_hidden": False},
}
"""The rows of Table 6 from the top: `extractor` arguments of the GRU policy, whose GRU has as many units. A.1 takes
`fc_1024` for ResNets and DenseNets, `conv1x1_32` (Fig. 4) for the others."""


def extractor_arguments(extractor: dict[str, Any] | str | None) -> dict[str, Any]:
    """Arguments of `GlimpseExtractor`: themselves, or a row of `PROPOSAL_NETWORKS` by its name.

    Raises:
        ValueError: if there is no such row.
    """
    if not isinstance(extractor, str):
        return extractor or {}
    if extractor not in PROPOSAL_NETWORKS:
        raise ValueError(f"extractor={extractor!r} is unknown; pass one of {', '.join(PROPOSAL_NETWORKS)}")
    return PROPOSAL_NETWORKS[extractor]


def squash_mean(policy: ActorCriticPolicy) -> None:
    """Makes a new Gaussian policy's mean stay in [-1, 1] and start at the image's centre, and its std a given one."""
    assert isinstance(policy.action_net, nn.Linear)
    nn.init.zeros_(policy.action_net.bias)
    policy.action_net = nn.Sequential(policy.action_net, nn.Tanh())
    log_std = policy.log_std.detach().clone()
    del policy.log_std
    policy.register_buffer("log_std", log_std)  # no parameter: TRPO differentiates all of these


def _shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    assert space.shape is not None
    return space.shape


class GlimpsePolicy(MultiInputActorCriticPolicy):
    """Gaussian policy with a squashed mean and a fixed standard deviation (A.2).

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
        super().__init__(*args, **{**kwargs, **ours})
        self.set_std(std)

    @property
    def reads_hidden(self) -> bool:
        """Whether the classifier's hidden state is read."""
        extractor = self.features_extractor
        return isinstance(extractor, GlimpseExtractor) and extractor.reads_hidden

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self._build_output(lr_schedule)

    def _build_output(self, lr_schedule: Schedule) -> None:
        squash_mean(self)
        self.optimizer = self.optimizer_class(self.parameters(), **{"lr": lr_schedule(1), **self.optimizer_kwargs})

    def set_std(self, std: float) -> None:
        """Sets the standard deviation, in the paper's [0, 1] units."""
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
        return self.remember(self.extract_features(observations), state, episode_start)  # type: ignore[arg-type]  # Dict observations

    def remember(self, vectors: Tensor, state: Tensor, episode_start: Tensor) -> Tensor:
        """The GRU's part of `recur`, on (B, features_dim) vectors that were extracted before."""
        new_state: Tensor = self.gru(vectors, state * (1.0 - episode_start)[:, None])
        return new_state

    def outputs(self, state: Tensor) -> tuple[Distribution, Tensor]:
        """The action's distribution and the value (B,) that a state stands for."""
        return self._get_action_dist_from_latent(state), self.value_net(state).flatten()
