"""The images of the current episodes, on the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from classifiers.data.source import ArrayImages, ImageSource

_MOST_BYTES = 4 << 30  # of a data set that is copied to another device


class RowImages:
    """The image of each row; those of a data set in memory are not copied, only found by their index.

    Args:
        source: the images.
        blank: (1, 3, H, W) or, a clip, (1, F, 3, H, W) uint8, before the first episode.
        num_rows: number B of rows.
        device: where they are wanted.

    Attributes:
        pool: (N, 3, H, W) or (N, F, 3, H, W) uint8, images among which the rows' are.
        place: (B,) int64, where in the pool.
    """

    def __init__(self, source: ImageSource, blank: Tensor, num_rows: int, device: torch.device) -> None:
        self._source = source
        self._stored: ArrayImages | None = None
        if type(source) is ArrayImages and (device.type == "cpu" or source.images.nbytes <= _MOST_BYTES):
            self._stored = source  # a subclass may fetch otherwise
        self.pool = blank.expand(num_rows, *blank.shape[1:]).to(device).clone()
        self.place = torch.arange(num_rows, device=device)
        if self._stored is not None:
            self.pool, self.place = self._stored.on(device), torch.zeros_like(self.place)

    def fetch(self, rows: np.ndarray, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Gives some rows other images.

        Args:
            rows: (R,) int64, which rows.
            indices: (R,) int64 on the CPU, which images of the source.

        Returns:
            The labels (R,) and boxes (R, N, 4) of these images, int64, on the CPU.
        """
        where, device = torch.from_numpy(rows), self.pool.device
        if self._stored is not None:
            self.place[where.to(device)] = indices.to(device)
            return self._stored.labels[indices], self._stored.boxes[indices]
        batch = self._source.fetch(indices)
        images = batch.images.to(device, non_blocking=True)
        if len(rows) == len(self.pool):
            self.pool = images
        else:
            self.pool[where.to(device)] = images
        return batch.labels, batch.boxes

    def of_rows(self) -> Tensor:
        """(B, 3, H, W) or (B, F, 3, H, W) uint8, the image of each row."""
        return self.pool[self.place] if self._stored is not None else self.pool
