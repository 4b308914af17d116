"""The protocol of all policies, learned or not, in evaluation, stage III, recognition and export."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from classifiers.networks.glimpse import View


class LocationPolicy(Protocol):
    """A policy without exploration noise: a `classifiers.networks.glimpse.Policy` with a known cost.

    Attributes:
        observation_keys: keys of `gfnet_env.observation.OBSERVATION_KEYS` that it reads.
    """

    observation_keys: tuple[str, ...]

    @property
    def multiply_adds(self) -> int:
        """Cost of one decision for one image."""
        ...

    def __call__(self, view: View, state: Any) -> tuple[Tensor, Any]:
        """Decides where to look.

        Args:
            view: of B episodes.
            state: what the previous call returned; None at the start of the episodes.

        Returns:
            The location (B, 2) in [0, 1], (row, col), and the new state.
        """
        ...
