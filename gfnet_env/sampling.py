"""How an episode is chosen: its image and the sizes of its patches, drawn at random or given as reset options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfnet_env.trace import check_shape

_NOT_DRAWN = -1


class ImageOrder:
    """Draws images uniformly, for each row one episode in advance, so that they can be decoded in time.

    Args:
        num_images: how many images there are.
        num_rows: number B of rows.
    """

    def __init__(self, num_images: int, num_rows: int) -> None:
        self._num_images = num_images
        self._next = np.full(num_rows, _NOT_DRAWN, dtype=np.int64)

    def invalidate(self, row: int) -> None:
        """Drops what was drawn for a row, because its generator was seeded again."""
        self._next[row] = _NOT_DRAWN

    def next_indices(self, rows: np.ndarray, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """The images of new episodes in some rows; draws the following ones.

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
        """Restores what `state_dict` returned, for the same number of rows."""
        self._next = check_shape(state["next"], self._next.shape).numpy().copy()


def sample_sizes(rngs: Sequence[np.random.Generator], num_sizes: int, num_patches: int) -> np.ndarray:
    """Draws the patch sizes of new episodes uniformly (Section 4.2); with one size, nothing is drawn.

    Args:
        rngs: a generator for each of R episodes.
        num_sizes: K.
        num_patches: T - 1.

    Returns:
        (R, T - 1) int64 indices of sizes.
    """
    if num_sizes == 1:
        return np.zeros((len(rngs), num_patches), np.int64)
    return np.stack([rng.integers(num_sizes, size=num_patches) for rng in rngs])


def parse_index_option(index: Any, num_rows: int, num_images: int) -> np.ndarray:
    """Reads the reset option `index`.

    Args:
        index: one image index for all rows, or one for each.
        num_rows: number B of rows.
        num_images: how many images there are.

    Returns:
        (B,) int64.

    Raises:
        ValueError: if it is not a whole number, has another shape, or there is no such image.
    """
    expected = f"pass a whole number from 0 to {num_images - 1}"
    if num_rows > 1:
        expected += f", or {num_rows} of them"
    chosen = np.asarray(index)
    is_valid = chosen.dtype.kind in "iu" and chosen.shape in ((), (num_rows,))
    if not is_valid or ((chosen < 0) | (chosen >= num_images)).any():
        raise ValueError(f"index={index!r}; {expected}")
    return np.broadcast_to(chosen, (num_rows,)).astype(np.int64)


def parse_patch_sizes_option(sides: Any, num_rows: int, num_patches: int, patch_sizes: tuple[int, ...]) -> np.ndarray:
    """Reads the reset option `patch_sizes`.

    Args:
        sides: in pixels: one for all patches, one for each of the T - 1 patches, or (B, T - 1) of them.
        num_rows: number B of rows.
        num_patches: T - 1.
        patch_sizes: the K possible sizes in pixels, ascending.

    Returns:
        (B, T - 1) int64 indices of sizes.

    Raises:
        ValueError: if a size is none of these, or their shape is wrong.
    """
    expected = f"pass one of {', '.join(map(str, patch_sizes))}, or {num_patches} of them, one for each patch"
    if num_rows > 1:
        expected += f", or an array of ({num_rows}, {num_patches})"
    chosen = np.asarray(sides)
    is_valid = chosen.dtype.kind in "iu" and chosen.shape in ((), (num_patches,), (num_rows, num_patches))
    if not is_valid or not np.isin(chosen, patch_sizes).all():
        raise ValueError(f"patch_sizes={sides!r}; {expected}")
    return np.broadcast_to(np.searchsorted(patch_sizes, chosen), (num_rows, num_patches)).astype(np.int64)
