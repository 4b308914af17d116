"""Conversions between the environment's actions and the paper's locations and decisions to stop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from classifiers.checks import shortened


class Decisions(NamedTuple):
    """What the agent decided in each row.

    Attributes:
        location: (B, 2) float32 in [0, 1], (row, col) of the next patch; without meaning where the agent stops.
        stops: (B,) bool, whether the episode ends without another look.
        size: (B,) int64, index of the patch's size; None where the agent does not choose it.
    """

    location: Tensor
    stops: np.ndarray
    size: np.ndarray | None

    def of(self, rows: np.ndarray) -> Decisions:
        """The decisions of some rows, (R,) int64."""
        return Decisions(self.location[rows], self.stops[rows], None if self.size is None else self.size[rows])


def to_decisions(actions: np.ndarray, count: int, names: tuple[str, ...], num_sizes: int = 1) -> Decisions:
    """Reads actions: an episode stops where `stop` is above 0, and K equal parts of [-1, 1] are the values of `size`.

    Args:
        actions: (B, A) float in [-1, 1].
        count: number B of environments.
        names: of the A components: row, col, perhaps stop, perhaps size (`EpisodeSpec.action_names`).
        num_sizes: K patch sizes.

    Returns:
        What each row does.

    Raises:
        ValueError: if the actions are not numbers of this shape, or one is NaN or outside the space.
    """
    values = _checked(actions, names, count)
    column = dict(zip(names, values.T, strict=True))
    stops = column["stop"] > 0.0 if "stop" in column else np.zeros(len(values), dtype=bool)
    size = None
    if "size" in column:
        size = np.minimum((column["size"] + 1.0) / 2.0 * num_sizes, num_sizes - 1).astype(np.int64)
    return Decisions(to_location(values[:, :2]), stops, size)


def to_location(actions: np.ndarray) -> Tensor:
    """The location l = (a + 1) / 2 in [0, 1]^2 of an action a in [-1, 1]^2 (Section 3.2).

    Args:
        actions: (B, 2) float in [-1, 1], (row, col).

    Returns:
        (B, 2) float32 in [0, 1].

    Raises:
        ValueError: if the shape is wrong, or an action is NaN or outside the space.
    """
    return location_of(torch.from_numpy(_checked(actions, ("row", "col"))))


def location_of(action: Tensor) -> Tensor:
    """`to_location` for the output of a network: actions are clipped to the space instead of checked.

    Args:
        action: (B, 2) float, (row, col), or with further components behind.

    Returns:
        (B, 2) in [0, 1].
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
    """The locations of a square grid over the image, borders included, in reading order.

    Args:
        side: places along each axis, 2 or more.

    Returns:
        (side^2, 2) float32 actions in [-1, 1], (row, col).
    """
    axis = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def _checked(actions: np.ndarray, names: tuple[str, ...], count: int | None = None) -> np.ndarray:
    form = f"one ({', '.join(names)}) for each environment" + ("" if count is None else f", {count} in all")
    try:
        given = np.asarray(actions)
        if np.iscomplexobj(given):
            raise TypeError("complex numbers")
        values = given.astype(np.float32, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        shown = shortened(repr(actions))
        raise ValueError(f"actions {shown} are not an array of real numbers; pass {form}") from error
    if values.ndim != 2 or values.shape[1] != len(names) or (count is not None and len(values) != count):
        raise ValueError(f"actions of shape {values.shape}; pass {form}")
    inside = (np.abs(values) <= 1.0).all(axis=1)  # false for NaN too
    if not inside.all():
        raise ValueError(
            f"action {values[~inside][0].tolist()} is outside Box(-1, 1, ({len(names)},)); clip actions, or wrap the "
            "environment in gymnasium.wrappers.ClipAction"
        )
    return values
