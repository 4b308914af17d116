"""Which image each row shows next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfnet_env.saved_rows import of_shape

_NOT_DRAWN = -1


class ImageOrder:
    """Draws images uniformly, for each row one episode in advance, so that they can be decoded in time.

    Args:
        num_images: how many images there are.
        num_rows: number of episodes side by side.
    """

    def __init__(self, num_images: int, num_rows: int) -> None:
        self._num_images = num_images
        self._next = np.full(num_rows, _NOT_DRAWN, dtype=np.int64)

    def forget(self, row: int) -> None:
        """Drops what was drawn for a row, because its generator was seeded again."""
        self._next[row] = _NOT_DRAWN

    def take(self, rows: np.ndarray, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """The images of new episodes in some rows; draws the next ones.

        Args:
            rows: (R,) int64, which rows.
            rngs: a generator for each of these.

        Returns:
            (R,) int64 indices.
        """
        for row, rng in zip(rows.tolist(), rngs, strict=True):
            if self._next[row] == _NOT_DRAWN:
                self._next[row] = rng.integers(self._num_images)
        taken: np.ndarray = self._next[rows].copy()
        self._next[rows] = [rng.integers(self._num_images) for rng in rngs]
        return taken

    @property
    def upcoming(self) -> np.ndarray:
        """Images of the rows' next episodes, as far as they are drawn."""
        drawn: np.ndarray = self._next[self._next != _NOT_DRAWN]
        return drawn

    def state_dict(self) -> dict[str, Tensor]:
        """What was drawn, for `load_state_dict`."""
        return {"next": torch.from_numpy(self._next.copy())}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state_dict` returned for as many rows."""
        self._next = of_shape(state["next"], self._next.shape).numpy().copy()


def chosen_images(index: Any, num_rows: int, num_images: int) -> np.ndarray:
    """Checks the reset option `index`.

    Args:
        index: one image index for all rows, or one for each.
        num_rows: number B of rows.
        num_images: how many images there are.

    Returns:
        (B,) int64.

    Raises:
        ValueError: if it is no whole number, has another shape, or there is no such image.
    """
    wanted = f"pass a whole number from 0 to {num_images - 1}"
    if num_rows > 1:
        wanted += f", or {num_rows} of them"
    chosen = np.asarray(index)
    if chosen.dtype.kind not in "iu":
        raise ValueError(f"index={index!r} is not a whole number; {wanted}")
    if chosen.shape not in ((), (num_rows,)):
        raise ValueError(f"index has shape {chosen.shape}; {wanted}")
    if ((chosen < 0) | (chosen >= num_images)).any():
        raise ValueError(f"index={index} is outside the {num_images} images; {wanted}")
    return np.broadcast_to(chosen, (num_rows,)).astype(np.int64)
