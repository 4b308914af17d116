"""Policies that nobody trains, where a run expects an agent: the patch selections of Table 5."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.policies.baselines import CENTRE_CORNERS
from classifiers.networks.glance_focus import Glimpse

FIXED_AGENTS = ("random", "centre_corner")
"""Their names, beside those of `agents.algorithms.registry.AGENTS`."""


class FixedAgent:
    """Looks at random places, or at the centre and then the corners.

    Args:
        name: one of `FIXED_AGENTS`.
        seed: of the random places.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self._generator = torch.Generator().manual_seed(seed)

    def locate(self, glimpse: Glimpse, state: int | None) -> tuple[Tensor, int]:
        """A `classifiers.networks.glance_focus.Locator`.

        Args:
            glimpse: of B images; only their number counts.
            state: how many places were taken before; None for none.

        Returns:
            (B, 2) in [0, 1], (row, col), and the new state.
        """
        count, step = len(glimpse.hidden), state or 0
        if self.name == "random":
            location = torch.rand(count, 2, generator=self._generator)
        else:
            location = CENTRE_CORNERS[step % len(CENTRE_CORNERS)].expand(count, 2)
        return location.to(glimpse.hidden.device), step + 1
