"""The patch proposal network pi (Section 3.2, Fig. 4), as Stable-Baselines3 policies.

Fig. 4: a 1x1 convolution reduces the channels of the feature maps, a fully-connected layer reads them without pooling,
a GRU is the memory, and one linear layer each outputs the mean of the location and the value. For ResNets and
DenseNets, A.1 uses two fully-connected layers and no convolution; `PROPOSAL_NETWORKS` holds all variants of Table 6.

Differs from the paper by default: `SpatialSoftArgmax` appends centers of attention over the feature maps, with which
the built-in task takes far fewer steps to learn precise locations; the mean is squashed by tanh into the environment's
[-1, 1], the paper's sigmoid into [0, 1] in other units, tanh(z / 2) = 2 sigmoid(z) - 1; the other parts of the
observation are read as well as the feature maps; maps and hidden state are normalized, because those of pretrained
networks are so large that tanh would saturate within a few updates, in a corner of the image; and the last layer has a
bias of its own for every step, so that each step starts at a place of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional

from classifiers.networks.heads import WideLinear
from gfnet_env.observation import OBSERVATION_KEYS, PIXEL_KEYS, SIZE_KEYS

Observation = dict[str, Tensor]

_MAPS = ("features", "glance")


class SpatialSoftArgmax(nn.Module):
    """The centers of mass of a few learned attention maps (Levine et al., 2016).

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
        return self.centers(self.score(maps))

    def centers(self, scores: Tensor) -> Tensor:
        """Scores of all positions, (B, K, h, w) -> (B, 2 K)."""
        weights = scores.flatten(2).softmax(dim=2)  # (B, K, h * w)
        centers: Tensor = weights @ self.places  # (B, K, 2)
        return centers.flatten(1)


class GlimpseExtractor(BaseFeaturesExtractor):
    """Turns an observation into a vector: a convolution over its feature maps, concatenation, fully-connected layers.

    Args:
        observation_space: the environment's, some of `gfnet_env.observation.OBSERVATION_KEYS`.
        conv_channels: channels after the convolution; 0 for no convolution (A.1: ResNets and DenseNets).
        units: length of the vector.
        conv_kernel: side of the convolution's kernel, odd.
        fc1_units: units of an additional first fully-connected layer; 0 for none.
        reads: keys of the observation to read, where the environment has them; None reads all but pixels, which need an
            encoder (`MultiInputPolicy` of Stable-Baselines3 has one). The paper's pi reads the feature maps and, where
            patches have several sizes, one-hots of the last and the next one (Section 4.2). Differs from the paper:
            they enter before the fully-connected layers, not between these and the GRU.
        attention_maps: attention maps over each feature map, whose centers of mass (row, col) are appended to the
            vector; 0 for none, as in the paper. They share weights over all positions, whereas a fully-connected layer
            has to learn each position separately.
        normalize: whether each observation's feature maps (over channels and positions) and vectors are brought
            to mean 0 and variance 1, with learned scales; not in the paper.
        step_bias: whether `progress`, where it is read, is appended to the vector, so that a linear layer on it has a
            bias for every step; not in the paper.

    Attributes:
        num_steps: length T of the one-hot at the end of the vector; 0 for none.

    Raises:
        ValueError: if the environment has none of the keys to read.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        conv_channels: int = 32,
        units: int = 256,
        conv_kernel: int = 1,
        fc1_units: int = 0,
        reads: Sequence[str] | None = None,
        attention_maps: int = 0,
        normalize: bool = True,
        step_bias: bool = True,
    ) -> None:
        known = [key for key in OBSERVATION_KEYS if key in observation_space.spaces and key not in PIXEL_KEYS]
        read = [key for key in known if reads is None or key in reads]
        if not read:
            raise ValueError(
                f"reads={reads!r}, but the observation has {', '.join(observation_space.spaces)}; pass some of these, "
                "and for pixels a policy that encodes them, such as MultiInputPolicy of Stable-Baselines3"
            )
        self.maps = [key for key in read if key in _MAPS]
        self.vectors = [key for key in read if key not in _MAPS]
        has_step_bias = step_bias and "progress" in self.vectors
        num_steps = math.prod(_shape(observation_space["progress"])) if has_step_bias else 0
        super().__init__(observation_space, units + 2 * attention_maps * len(self.maps) + num_steps)
        self.num_steps = num_steps
        self.norms = nn.ModuleDict()
        if normalize:
            self.norms.update({key: nn.GroupNorm(1, _shape(observation_space[key])[0]) for key in self.maps})
            for key in ("hidden", "pooled"):
                if key in self.vectors:
                    self.norms[key] = nn.LayerNorm(_shape(observation_space[key]))
        self.attention: SpatialSoftArgmax | None = None
        self.reduce: nn.Module = nn.Identity()
        size = sum(math.prod(_shape(observation_space[key])) for key in self.vectors)
        if self.maps:
            channels, height, width = _shape(observation_space[self.maps[0]])
            if attention_maps:
                self.attention = SpatialSoftArgmax(channels, height, width, attention_maps)
            if conv_channels:
                convolution = nn.Conv2d(channels, conv_channels, conv_kernel, padding=conv_kernel // 2, bias=False)
                self.reduce = nn.Sequential(convolution, nn.ReLU())
                channels = conv_channels
            size += len(self.maps) * channels * height * width
        self.fc1: nn.Module = nn.Identity()
        if fc1_units:
            self.fc1 = nn.Sequential(WideLinear(size, fc1_units), nn.ReLU())
            size = fc1_units
        self.fully_connected = nn.Linear(size, units)

    def forward(self, observations: Observation) -> Tensor:
        """Dict of float32 tensors, B observations -> (B, features_dim)."""
        maps = [self._read(key, observations[key]) for key in self.maps]
        vectors = [self._normalized(key, observations[key]).flatten(1) for key in self.vectors]
        seen = torch.cat([reduced.flatten(1) for reduced, _ in maps] + vectors, dim=1)
        read = [torch.relu(self.fully_connected(self.fc1(seen)))]
        read += [centers for _, centers in maps if centers is not None]
        if self.num_steps:
            read.append(observations["progress"].flatten(1))
        return torch.cat(read, dim=1)

    def _normalized(self, key: str, value: Tensor) -> Tensor:
        return self.norms[key](value) if key in self.norms else value

    def _read(self, key: str, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the convolution gives, (B, c, h, w), and the centers of attention, (B, 2 K)."""
        if key in self.norms and isinstance(self.reduce, nn.Sequential) and self.reduce[0].kernel_size == (1, 1):
            return self._read_at_once(self.norms[key], self.reduce[0], maps)
        normalized = self._normalized(key, maps)
        return self.reduce(normalized), None if self.attention is None else self.attention(normalized)

    def _read_at_once(self, norm: nn.Module, convolution: nn.Module, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """The same by one convolution, into which the scales of the norm are folded.

        No gradient then goes to the maps themselves, which saves a third of the time of an update.
        """
        assert isinstance(norm, nn.GroupNorm)
        assert isinstance(convolution, nn.Conv2d)
        weights, shift = [convolution.weight.flatten(1)], [norm.bias.new_zeros(convolution.out_channels)]
        if self.attention is not None:
            assert self.attention.score.bias is not None
            weights.append(self.attention.score.weight.flatten(1))
            shift.append(self.attention.score.bias)
        weight = torch.cat(weights)
        scaled, bias = weight * norm.weight, torch.cat(shift) + weight @ norm.bias
        normalized = functional.group_norm(maps, 1, eps=norm.eps)
        both = functional.conv2d(normalized, scaled[..., None, None], bias)
        reduced = torch.relu(both[:, : convolution.out_channels])
        if self.attention is None:
            return reduced, None
        return reduced, self.attention.centers(both[:, convolution.out_channels :])


_PAPER: dict[str, Any] = {"reads": ("features", *SIZE_KEYS), "normalize": False, "step_bias": False}

PROPOSAL_NETWORKS: dict[str, dict[str, Any]] = {
    "fc_1024": {"conv_channels": 0, "fc1_units": 2048, "units": 1024, **_PAPER},
    "fc_512": {"conv_channels": 0, "fc1_units": 2048, "units": 512, **_PAPER},
    "fc_256": {"conv_channels": 0, "fc1_units": 2048, "units": 256, **_PAPER},
    "conv3x3_32": {"conv_channels": 32, "conv_kernel": 3, "units": 256, **_PAPER},
    "conv1x1_64": {"conv_channels": 64, "units": 256, **_PAPER},
    "conv1x1_32": {"conv_channels": 32, "units": 256, **_PAPER},
    "conv1x1_16": {"conv_channels": 16, "units": 256, **_PAPER},
}
"""The rows of Table 6 from the top: `extractor` arguments of the GRU policy, whose GRU has as many units. A.1 uses
`fc_1024` for ResNets and DenseNets, `conv1x1_32` (Fig. 4) for the others."""


def extractor_arguments(extractor: dict[str, Any] | str | None) -> dict[str, Any]:
    """Arguments of `GlimpseExtractor`.

    Args:
        extractor: the arguments themselves, a key of `PROPOSAL_NETWORKS`, or None for the defaults.

    Returns:
        The keyword arguments.

    Raises:
        ValueError: if there is no such key.
    """
    if not isinstance(extractor, str):
        return extractor or {}
    if extractor not in PROPOSAL_NETWORKS:
        raise ValueError(f"extractor={extractor!r} is unknown; pass one of {', '.join(PROPOSAL_NETWORKS)}")
    return PROPOSAL_NETWORKS[extractor]


def _shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    assert space.shape is not None
    return space.shape
