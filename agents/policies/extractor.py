"""The patch proposal network pi (Section 3.2, Fig. 4), as Stable-Baselines3 policies.

Fig. 4: a 1x1 convolution narrows the feature maps, a fully-connected layer reads them without pooling, a GRU remembers
them, and one linear layer each gives the mean of the location and the state's value. A.1 leaves the convolution out for
ResNets and DenseNets and puts two layers instead of one; `PROPOSAL_NETWORKS` holds all variants of Table 6.

Differs from the paper, unless told otherwise: centres of attention over the feature map go into both outputs beside
that layer (`SpatialSoftArgmax`: on the embedded task, far fewer steps to precise looks); the mean is squashed by tanh
into the environment's [-1, 1], which is the paper's sigmoid into [0, 1] in other units, tanh(z / 2) = 2 sigmoid(z) - 1;
the classifier's hidden state h^C is read beside the feature maps.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from agents.policies.spatial_soft_argmax import SpatialSoftArgmax
from classifiers.networks.wide_linear import WideLinear

Observation = dict[str, Tensor]


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
        self.attention: SpatialSoftArgmax | None = None
        narrow: nn.Module = nn.Identity()
        size = 0
        if reads_features:
            channels, height, width = _shape(observation_space["features"])
            if attention_maps:
                self.attention = SpatialSoftArgmax(channels, height, width, attention_maps)
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
