"""The sizes of an episode's patches, where there are several (Section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def drawn_sizes(rngs: Sequence[np.random.Generator], num_sizes: int, num_patches: int) -> np.ndarray:
    """Draws the sizes of the patches of new episodes, uniformly; with one size, nothing is drawn.

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


def chosen_sizes(sides: Any, num_rows: int, num_patches: int, patch_sizes: tuple[int, ...]) -> np.ndarray:
    """Checks the reset option `patch_sizes`.

    Args:
        sides: in pixels: one for all patches, one for each of the T - 1 patches, or (B, T - 1) of them.
        num_rows: number B of rows.
        num_patches: T - 1.
        patch_sizes: the K sizes that there are, in pixels, ascending.

    Returns:
        (B, T - 1) int64 indices of sizes.

    Raises:
        ValueError: if a size is none of these, or their shape is wrong.
    """
    wanted = f"pass one of {', '.join(map(str, patch_sizes))}, or {num_patches} of them, one for each patch"
    if num_rows > 1:
        wanted += f", or an array of ({num_rows}, {num_patches})"
    chosen = np.asarray(sides)
    if chosen.dtype.kind not in "iu" or not np.isin(chosen, patch_sizes).all():
        raise ValueError(f"patch_sizes={sides!r} are not the environment's; {wanted}")
    if chosen.shape not in ((), (num_patches,), (num_rows, num_patches)):
        raise ValueError(f"patch_sizes have shape {chosen.shape}; {wanted}")
    return np.broadcast_to(np.searchsorted(patch_sizes, chosen), (num_rows, num_patches)).astype(np.int64)
