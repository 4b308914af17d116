"""The action space, and what an action says: where to look, whether to stop, which patch size to take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor


class ActionBox(spaces.Box):
    """A box [-1, 1]^A whose components have names.

    Args:
        names: of the A components, (row, col) of the next patch first.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(-1.0, 1.0, (len(names),), np.float32)
        self.names = names


class GridSpace(spaces.Discrete):
    """Places on a square grid over the image, borders included, numbered in reading order; see `grid_actions`.

    Args:
        side: places along each axis, 2 or more.
    """

    def __init__(self, side: int) -> None:
        super().__init__(side * side)
        self.side = side


class Decisions(NamedTuple):
    """What the agent decided in each row.

    Attributes:
        location: (B, 2) float32 in [0, 1], (row, col) of the next patch; not used where the agent stops.
        stops: (B,) bool, whether the episode ends without another glimpse.
        size: (B,) int64, index of the patch's size; None where the agent does not choose it.
    """

    location: Tensor
    stops: np.ndarray
    size: Tensor | None

    def select(self, rows: np.ndarray) -> Decisions:
        """The decisions of some rows, (R,) int64."""
        if len(rows) == len(self.stops):
            return self
        where = torch.from_numpy(rows).to(self.location.device)
        return Decisions(self.location[where], self.stops[rows], None if self.size is None else self.size[where])


def to_decisions(
    actions: np.ndarray | Tensor,
    count: int,
    names: tuple[str, ...],
    num_sizes: int = 1,
    device: torch.device | str = "cpu",
) -> Decisions:
    """Reads actions: an episode stops where `stop` is above 0; `size` divides [-1, 1] into K equal parts.

    Args:
        actions: (B, A) float in [-1, 1].
        count: number B of environments.
        names: of the A components: row, col, perhaps stop, perhaps size (`EpisodeSpec.action_names`).
        num_sizes: K patch sizes.
        device: where locations and sizes are wanted.

    Returns:
        The decision of each row.

    Raises:
        ValueError: if the actions have another shape, or one is NaN or outside the space.
    """
    if isinstance(actions, Tensor):
        values = actions.detach().to(torch.float32)
    else:
        values = torch.from_numpy(np.array(actions, dtype=np.float32))
    if values.shape != (count, len(names)):
        raise ValueError(
            f"actions of shape {tuple(values.shape)}; pass one ({', '.join(names)}) for each environment, "
            f"{count} in all"
        )
    inside = values.abs() <= 1.0  # false for NaN too
    if not inside.all():
        raise ValueError(
            f"action {values[~inside.all(dim=1)][0].tolist()} is outside Box(-1, 1, ({len(names)},)); clip actions, or "
            "wrap the environment in gymnasium.wrappers.ClipAction"
        )
    stops, size = np.zeros(count, dtype=bool), None
    if "stop" in names:
        stops = (values[:, names.index("stop")] > 0.0).cpu().numpy()
    values = values.to(device)
    if "size" in names:
        share = (values[:, names.index("size")] + 1.0) / 2.0
        size = (share * num_sizes).clamp(max=num_sizes - 1).long()
    return Decisions(to_location(values), stops, size)


def to_location(action: Tensor) -> Tensor:
    """The location l = (a + 1) / 2 of an action a, clipped to the image (Section 3.2).

    Args:
        action: (B, A) float, (row, col) in [-1, 1] first.

    Returns:
        (B, 2) in [0, 1], (row, col).
    """
    return ((action[:, :2] + 1.0) / 2.0).clamp(0.0, 1.0)


def to_action(location: Tensor) -> np.ndarray:
    """The action a = 2 l - 1 of a location l: the inverse of `to_location`.

    Args:
        location: (B, 2) in [0, 1], (row, col).

    Returns:
        (B, 2) float32 in [-1, 1].
    """
    return np.clip(2.0 * location.detach().cpu().numpy() - 1.0, -1.0, 1.0).astype(np.float32)


def grid_actions(side: int) -> np.ndarray:
    """The places of a square grid over the image, borders included, in reading order.

    Args:
        side: places along each axis, 2 or more.

    Returns:
        (side^2, 2) float32 actions in [-1, 1], (row, col).
    """
    axis = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
