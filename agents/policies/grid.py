"""A policy over a grid of places: which of them to look at, told by what the glance shows there.

A Gaussian has one mean, and between several places that look alike its gradient points to their middle. A distribution
over places rates each of them by itself, so it can prefer any of the likely ones and then the next one that was not
visited. What was seen before may say where to look, as an arrow does, so a coarse map of places is read off the vector
of all that is known, and added; to it belongs the pooled vector of the last patch, where it is observed. Not in the
paper.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.nn import functional

from agents.policies.extractor import GlimpseExtractor, Observation
from gfnet_env.actions import GridSpace, grid_actions

_REACH, _BLUR = 0.7, 0.2  # at first: how far centers of patches reach, how wide a visit is; in half sides
_COARSE = 5  # places along each axis of the map that is read off the vector
_LOGIT_SCALE = 4.0  # an untrained policy is nearly uniform, and learns to be sure within few updates


class PlaceScores(nn.Module):
    """Rates every place of a grid by the feature maps there, by the visits near it, and by what else is known.

    What else is known acts in two ways: on how maps and visits are rated, and by a coarse map of places that is a
    linear function of it.

    Args:
        channels: channels C of the feature maps.
        side: places along each axis of the grid.
        context: length D of the vector that says what else is known.
        units: channels of the hidden layer.
    """

    places: Tensor

    def __init__(self, channels: int, side: int, context: int, units: int = 32) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("places", torch.from_numpy(grid_actions(side)), persistent=False)  # (A, 2) in [-1, 1]
        self.reach = nn.Parameter(torch.full((2,), _REACH))  # what the environment does not tell: patch over image
        self.blur = nn.Parameter(torch.tensor(_BLUR))
        self.read_maps = nn.Linear(channels, units)
        self.read_place = nn.Linear(4, units)
        self.read_context = nn.Linear(context, units)
        self.score = nn.Linear(units, 1)
        self.coarse = nn.Linear(context, _COARSE**2)

    def forward(self, maps: Tensor, context: Tensor, visits: Tensor, last: Tensor) -> Tensor:
        """Logits of the places.

        Args:
            maps: (B, C, h, w) of the whole image.
            context: (B, D).
            visits: (B, N, 3): (row, col) in [-1, 1] of N looks, and 1 for those that were taken, else 0.
            last: (B, N), 1 for the last look that was taken, else 0.

        Returns:
            (B, A).
        """
        batch, centers = len(maps), self.places * self.reach
        grid = centers.flip(1).view(1, self.side, self.side, 2).expand(batch, -1, -1, -1)
        seen = self.read_maps(functional.grid_sample(maps, grid, align_corners=False).flatten(2).transpose(1, 2))
        squared = (centers - visits[:, :, None, :2] * self.reach).square().sum(dim=3)  # (B, N, A)
        near = (-squared / (2 * self.blur**2)).exp()
        visited, before = (near * visits[..., 2:]).amax(dim=1), (near * last[..., None]).sum(dim=1)
        place = torch.cat([self.places.expand(batch, -1, -1), torch.stack([visited, before], dim=2)], dim=2)
        hidden = torch.relu(seen + self.read_place(place) + self.read_context(context)[:, None])
        coarse = self.coarse(context).view(batch, 1, _COARSE, _COARSE)
        fine = functional.interpolate(coarse, (self.side, self.side), mode="bilinear", align_corners=True)
        logits: Tensor = self.score(hidden)[..., 0] + fine.flatten(1)
        return logits


class GridExtractor(BaseFeaturesExtractor):
    """A vector of what the policy knows, and at its end a logit for each place of a grid.

    Args:
        observation_space: the environment's; it holds `features` or `glance`. Visited places are known where it holds
            `locations` and `progress`.
        side: places along each axis.
        extractor: arguments of `GlimpseExtractor`, which makes the vector.
    """

    def __init__(self, observation_space: spaces.Dict, side: int, extractor: dict[str, Any]) -> None:
        vector = GlimpseExtractor(observation_space, **extractor)
        pooled = observation_space["pooled"].shape or () if "pooled" in observation_space.spaces else (0,)
        context = vector.features_dim + math.prod(pooled)
        super().__init__(observation_space, context + side * side)
        self.vector = vector
        self.norm_pooled = nn.LayerNorm(pooled) if math.prod(pooled) else None
        self.maps = "glance" if "glance" in observation_space.spaces else "features"
        channels = (observation_space[self.maps].shape or ())[0]
        self.norm = nn.GroupNorm(1, channels)
        self.scores = PlaceScores(channels, side, context)

    def forward(self, observations: Observation) -> Tensor:
        """Dict of float32 tensors, B observations -> (B, features_dim)."""
        known = self.vector(observations)
        if self.norm_pooled is not None:
            known = torch.cat([known, self.norm_pooled(observations["pooled"])], dim=1)
        maps = self.norm(observations[self.maps])
        if "locations" in observations and "progress" in observations:
            progress = observations["progress"]
            taken = progress.flip(1).cumsum(dim=1).flip(1)[:, 1:, None]
            visits, last = torch.cat([2.0 * observations["locations"] - 1.0, taken], dim=2), progress[:, 1:]
        else:
            visits, last = maps.new_zeros(len(maps), 1, 3), maps.new_zeros(len(maps), 1)
        return torch.cat([known, self.scores(maps, known, visits, last)], dim=1)


class GlimpseGridPolicy(MultiInputActorCriticPolicy):
    """An actor-critic of Stable-Baselines3 whose actions are places on a grid (`GridAction`); see the module.

    Args:
        *args: of the base class; the action space is a `GridSpace`.
        extractor: arguments of `GlimpseExtractor`.
        **kwargs: of the base class.
    """

    def __init__(self, *args: Any, extractor: dict[str, Any] | None = None, **kwargs: Any) -> None:
        space = kwargs.get("action_space", args[1] if len(args) > 1 else None)
        side = space.side if isinstance(space, GridSpace) else math.isqrt(int(getattr(space, "n", 0)))
        ours: dict[str, Any] = {
            "net_arch": [],
            "features_extractor_class": GridExtractor,
            "features_extractor_kwargs": {"side": side, "extractor": extractor or {}},
        }
        super().__init__(*args, **{**kwargs, **ours})

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        assert isinstance(self.action_space, spaces.Discrete)
        assert isinstance(self.features_extractor, GridExtractor)
        nn.init.zeros_(self.features_extractor.scores.coarse.weight)  # an untrained policy has no favorite place
        self.action_net = _LastEntries(int(self.action_space.n))
        self.optimizer = self.optimizer_class(self.parameters(), **{"lr": lr_schedule(1), **self.optimizer_kwargs})


class _LastEntries(nn.Module):
    """The logits at the end of the extractor's vector."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, vector: Tensor) -> Tensor:
        return vector[:, -self.count :] * _LOGIT_SCALE
