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

from classifiers.wide_linear import WideLinear

Observation = dict[str, Tensor]

_FIRST_STOP_MEAN, _STOP_STD = -0.9, 0.5  # in the units of actions: at first one decision in thirty is to stop


class GlimpseExtractor(BaseFeaturesExtractor):
    """Feature maps and hidden state to one vector: convolution, concatenation, fully-connected layers.

    Args:
        observation_space: the environment's, with `features` (C, h, w), `hidden` (F_h,) or both.
        conv_channels: channels after the convolution; 0 leaves it out (A.1: ResNets and DenseNets).
        units: length of the vector.
        conv_kernel: side of the convolution's kernel, odd.
        first_units: units of a layer before the last one; 0 leaves it out.
        reads_hidden: whether the classifier's hidden state is read too; the paper's pi does not.
        attention_maps: maps of attention over the feature map, whose centres of mass (row, col) are appended to the
            vector; 0 leaves them out, as the paper does. A place learnt by one place's features is known everywhere,
            where a fully-connected layer has to learn each place anew.

    Raises:
        ValueError: if the environment shows nothing that is read.
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
        reads_features = "features" in observation_space.spaces
        reads_hidden = reads_hidden and "hidden" in observation_space.spaces
        if not reads_features and not reads_hidden:
            raise ValueError(
                "reads_hidden=False, but nothing else is observed; pass reads_hidden=True, or show features"
            )
        super().__init__(observation_space, units + (2 * attention_maps if reads_features else 0))
        self.reads_features, self.reads_hidden = reads_features, reads_hidden
        self.attention: CentresOfAttention | None = None
        narrow: nn.Module = nn.Identity()
        size = 0
        if reads_features:
            channels, height, width = _shape(observation_space["features"])
            if attention_maps:
                self.attention = CentresOfAttention(channels, height, width, attention_maps)
            if conv_channels:
                convolution = nn.Conv2d(channels, conv_channels, conv_kernel, padding=conv_kernel // 2, bias=False)
                narrow = nn.Sequential(convolution, nn.ReLU())
                channels = conv_channels
            size += channels * height * width
        if reads_hidden:
            size += math.prod(_shape(observation_space["hidden"]))
        self.narrow = narrow
        first: nn.Module = nn.Identity()
        if first_units:
            first = nn.Sequential(WideLinear(size, first_units), nn.ReLU())
            size = first_units
        self.first = first
        self.fully_connected = nn.Linear(size, units)

    def forward(self, observations: Observation) -> Tensor:
        """Dict of (B, C, h, w) and (B, F_h) -> (B, units + 2 * attention_maps)."""
        seen = []
        if self.reads_features:
            seen.append(self.narrow(observations["features"]).flatten(1))
        if self.reads_hidden:
            seen.append(observations["hidden"])
        vector = torch.relu(self.fully_connected(self.first(torch.cat(seen, dim=1))))
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


def _shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    assert space.shape is not None
    return space.shape


class SquashedGaussian(ActorCriticPolicy):
    """The patch proposal network in an actor-critic of SB3: a Gaussian, its mean squashed, its deviation given (A.2).

    Where the environment has a stop action, a third component decides on it. Its standard deviation is fixed, too, so
    that the chance to stop keeps a gradient, and its first mean below 0, so that a new policy looks rather than stops.
    Not in the paper.

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
            # SB3's epsilon; one pass over the weights, of which A.1's pi has 46 million
            ours["optimizer_kwargs"] = {"eps": 1e-5, "fused": True, **(kwargs.get("optimizer_kwargs") or {})}
        super().__init__(*args, **{**kwargs, **ours})
        self.set_std(std)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        assert isinstance(self.action_net, nn.Linear)
        nn.init.zeros_(self.action_net.bias)  # the first mean is the image's centre
        nn.init.constant_(self.action_net.bias[2:], math.atanh(_FIRST_STOP_MEAN))
        self.action_net = nn.Sequential(self.action_net, nn.Tanh())
        log_std = self.log_std.detach().clone()
        del self.log_std
        self.register_buffer("log_std", log_std)  # no parameter: TRPO differentiates all of these

    def set_std(self, std: float) -> None:
        """Sets the location's standard deviation, in the paper's [0, 1] units."""
        self.log_std[:2] = math.log(2.0 * std)  # actions span twice the locations' range
        self.log_std[2:] = math.log(_STOP_STD)


class GlimpsePolicy(SquashedGaussian, MultiInputActorCriticPolicy):
    """`SquashedGaussian` without memory: the last glimpse decides, and what the classifier remembers.

    Args:
        *args: see `SquashedGaussian`.
        **kwargs: likewise.
    """

    @property
    def reads_hidden(self) -> bool:
        """Whether the classifier's hidden state is read."""
        extractor = self.features_extractor
        return isinstance(extractor, GlimpseExtractor) and extractor.reads_hidden

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self._build_memory()
        self.optimizer = self.optimizer_class(self.parameters(), **{"lr": lr_schedule(1), **self.optimizer_kwargs})

    def _build_memory(self) -> None:
        """What stands between features and outputs: here nothing."""

    def mean_action(self, observations: Observation, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The deterministic action, by the shortest way through the network.

        Args:
            observations: of B environments.
            state: what the call before returned; None after the glance.

        Returns:
            The mean (B, A) in [-1, 1], and the new state, None for a policy without memory.
        """
        return self.action_net(self.extract_features(observations)), state


class GlimpseGRUPolicy(GlimpsePolicy):
    """The paper's own pi: as `GlimpsePolicy`, with a GRU of its own between features and outputs.

    Args:
        *args: of the base class.
        **kwargs: of the base class.
    """

    gru: nn.GRUCell

    def _build_memory(self) -> None:
        self.gru = nn.GRUCell(self.features_dim, self.features_dim)

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

    def mean_action(self, observations: Observation, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `GlimpsePolicy.mean_action`."""
        if state is None:
            state = self.initial_state(len(next(iter(observations.values()))))
        state = self.recur(observations, state, state.new_zeros(len(state)))
        return self.action_net(state), state

    def outputs(self, state: Tensor) -> tuple[Distribution, Tensor]:
        """The action's distribution and the value (B,) that a state stands for."""
        return self._get_action_dist_from_latent(state), self.value_net(state).flatten()
