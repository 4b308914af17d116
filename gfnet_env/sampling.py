"""How an episode is chosen: its image and the sizes of its patches, drawn at random or given as reset options."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gfnet_env.trace import check_shape

_NOT_DRAWN = -1


class Draws(Protocol):
    """What is random in episodes. Images are drawn one episode in advance, so that they can be decoded in time."""

    def images(self, rows: np.ndarray) -> np.ndarray:
        """The images of new episodes in some rows, (R,) int64 indices; draws the following ones."""

    def first_places(self, rows: np.ndarray) -> Tensor:
        """(R, 2) float32 in [0, 1], where the first looks of new episodes are, if they are random."""

    def sizes(self, rows: np.ndarray, num_sizes: int, num_patches: int) -> Tensor:
        """(R, T - 1) int64 indices of the patches' sizes in new episodes, uniform over K sizes (Section 4.2)."""

    def places(self, rows: np.ndarray, samples: int) -> Tensor:
        """(S, B, 2) float32 in [0, 1], the reward's random patches in some rows; those of other rows are not used."""

    @property
    def upcoming(self) -> np.ndarray:
        """Images of the rows' next episodes, as far as they are drawn."""

    def state_dict(self) -> dict[str, Any]:
        """The generators, and what was drawn in advance, for `load_state_dict`."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, for the same number of rows."""


class RowDraws:
    """`Draws` by a generator for each row; a child of it draws the reward's random patches.

    Args:
        num_images: how many images there are.
        num_rows: number B of rows; `use` gives each its generator.

    Attributes:
        rngs: the rows' generators.
        seeds: what they were seeded with; -1 where that is not known.
    """

    def __init__(self, num_images: int, num_rows: int) -> None:
        self._num_images = num_images
        self._next = np.full(num_rows, _NOT_DRAWN, dtype=np.int64)
        self.rngs: list[np.random.Generator] = [np.random.default_rng(0)] * num_rows
        self._crop_rngs = list(self.rngs)
        self.seeds = [-1] * num_rows

    def use(self, row: int, rng: np.random.Generator, seed: int = -1) -> None:
        """Gives a row a new generator, and drops what the old one drew."""
        self.rngs[row], self._crop_rngs[row], self.seeds[row] = rng, rng.spawn(1)[0], seed
        self._next[row] = _NOT_DRAWN

    def images(self, rows: np.ndarray) -> np.ndarray:
        for row in rows.tolist():
            if self._next[row] == _NOT_DRAWN:
                self._next[row] = self.rngs[row].integers(self._num_images)
        taken: np.ndarray = self._next[rows].copy()
        self._next[rows] = [self.rngs[row].integers(self._num_images) for row in rows.tolist()]
        return taken

    def first_places(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.stack([self.rngs[row].random(2, dtype=np.float32) for row in rows.tolist()]))

    def sizes(self, rows: np.ndarray, num_sizes: int, num_patches: int) -> Tensor:
        drawn = [self.rngs[row].integers(num_sizes, size=num_patches) for row in rows.tolist()]
        return torch.from_numpy(np.stack(drawn))

    def places(self, rows: np.ndarray, samples: int) -> Tensor:
        drawn = np.zeros((samples, len(self._crop_rngs), 2), dtype=np.float32)
        for row in rows.tolist():
            drawn[:, row] = self._crop_rngs[row].random((samples, 2), dtype=np.float32)
        return torch.from_numpy(drawn)

    @property
    def upcoming(self) -> np.ndarray:
        drawn: np.ndarray = self._next[self._next != _NOT_DRAWN]
        return drawn

    def state_dict(self) -> dict[str, Any]:
        rngs = {"generators": self.rngs, "crop_generators": self._crop_rngs}
        states = {name: [dict(rng.bit_generator.state) for rng in each] for name, each in rngs.items()}
        return {**states, "next": torch.from_numpy(self._next.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._next = check_shape(state["next"], self._next.shape).numpy().copy()
        for name, rngs in (("generators", self.rngs), ("crop_generators", self._crop_rngs)):
            for rng, saved in zip(rngs, state[name], strict=True):
                rng.bit_generator.state = saved


class BatchDraws:
    """`Draws` by two generators for all rows, one of them, on the device, for the reward's random patches.

    Args:
        num_images: how many images there are.
        num_rows: number B of rows.
        device: of the episodes.
    """

    def __init__(self, num_images: int, num_rows: int, device: torch.device) -> None:
        self._num_images, self._num_rows = num_images, num_rows
        self._rng, self._crop_rng = torch.Generator(), torch.Generator(device)
        self.seed(int(np.random.SeedSequence().generate_state(1)[0]))

    def seed(self, seed: int) -> None:
        """Seeds both generators, at least 0, and drops what was drawn."""
        own, crops = np.random.SeedSequence(seed).generate_state(2).tolist()
        self._rng.manual_seed(own)
        self._crop_rng.manual_seed(crops)
        self._next = self._draw(self._num_rows)

    def _draw(self, count: int) -> np.ndarray:
        drawn: np.ndarray = torch.randint(self._num_images, (count,), generator=self._rng).numpy()
        return drawn

    def images(self, rows: np.ndarray) -> np.ndarray:
        taken: np.ndarray = self._next[rows].copy()
        self._next[rows] = self._draw(len(rows))
        return taken

    def first_places(self, rows: np.ndarray) -> Tensor:
        return torch.rand(len(rows), 2, generator=self._rng, dtype=torch.float32)

    def sizes(self, rows: np.ndarray, num_sizes: int, num_patches: int) -> Tensor:
        return torch.randint(num_sizes, (len(rows), num_patches), generator=self._rng)

    def places(self, rows: np.ndarray, samples: int) -> Tensor:
        device, shape = self._crop_rng.device, (samples, self._num_rows, 2)
        return torch.rand(shape, generator=self._crop_rng, device=device, dtype=torch.float32)

    @property
    def upcoming(self) -> np.ndarray:
        return self._next

    def state_dict(self) -> dict[str, Any]:
        generators = {"generator": self._rng.get_state(), "crop_generator": self._crop_rng.get_state()}
        return {**generators, "next": torch.from_numpy(self._next.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._next = check_shape(state["next"], self._next.shape).numpy().copy()
        self._rng.set_state(state["generator"])
        self._crop_rng.set_state(state["crop_generator"])


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
