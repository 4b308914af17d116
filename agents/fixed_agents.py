"""Policies that nobody trains, where a run expects an agent: the patch selections of Table 5."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from agents.baselines import CENTRE_CORNERS
from gfnet_env.actions import to_action

FIXED_AGENTS = ("random", "centre_corner")
"""Their names, beside those of `agents.recipes.AGENTS`."""


class FixedAgent:
    """Looks at random places, or at the centre and then the corners.

    Args:
        name: one of `FIXED_AGENTS`.
        seed: of the random places.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self._generator = torch.Generator().manual_seed(seed)

    def predict(self, observation: dict[str, np.ndarray], state: Any = None, **_: Any) -> tuple[np.ndarray, Any]:
        """As an SB3 algorithm's: actions for a batch of observations, and the state: how many were taken before."""
        count, step = len(next(iter(observation.values()))), state or 0
        if self.name == "random":
            location = torch.rand(count, 2, generator=self._generator)
        else:
            location = CENTRE_CORNERS[step % len(CENTRE_CORNERS)].expand(count, 2)
        return to_action(location), step + 1
