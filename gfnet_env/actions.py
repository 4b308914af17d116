"""The one place where the environment's actions become the paper's locations."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_location(actions: np.ndarray) -> Tensor:
    """L = (a + 1) / 2: an action in [-1, 1]^2, 0 being the middle, as a location in [0, 1]^2 (Section 3.2).

    Args:
        actions: (B, 2) float in [-1, 1], (row, col).

    Returns:
        (B, 2) float32 in [0, 1].

    Raises:
        ValueError: if the shape is another, or an action is NaN or lies outside the space.
    """
    values = np.asarray(actions, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] != 2:
        raise ValueError(f"actions of shape {values.shape}; pass one (row, col) for each environment")
    if not (np.abs(values) <= 1.0).all():  # false for NaN too
        worst = values[~(np.abs(values) <= 1.0).all(axis=1)][0]
        raise ValueError(
            f"action {worst.tolist()} is outside Box(-1, 1, (2,)); clip actions, or wrap the environment in "
            "gymnasium.wrappers.ClipAction"
        )
    return torch.from_numpy((values + 1.0) / 2.0)


def to_action(location: Tensor) -> np.ndarray:
    """A = 2 l - 1, the inverse of `to_location`.

    Args:
        location: (B, 2) in [0, 1], (row, col).

    Returns:
        (B, 2) float32 in [-1, 1].
    """
    return np.clip(2.0 * location.detach().cpu().numpy() - 1.0, -1.0, 1.0).astype(np.float32)


def grid_actions(side: int) -> np.ndarray:
    """The places of a square grid over the image, the borders included, in reading order.

    Args:
        side: places along each axis, 2 or more.

    Returns:
        (side^2, 2) float32 actions in [-1, 1], (row, col).
    """
    axis = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
