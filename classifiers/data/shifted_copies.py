"""Each image under many random shifts, as images of their own: a policy can't learn by heart where things are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from classifiers.data.source import Batch, ImageSource, SourceView

COPIES = 32
"""Shifts of each image."""


class ShiftedCopies(SourceView[ImageSource]):
    """Copies of a source's images, each shifted once and for all; the first of an image is the image itself.

    Copies are numbered one after the other, all images' first copies foremost. Boxes are for evaluation: copies have
    none.

    Args:
        source: the images.
        shift_px: largest shift in each direction, in pixels, smaller than the images' sides; borders are filled by
            reflection.
        seed: of the shifts; a copy's shift depends on seed and number alone.

    Raises:
        ValueError: if the shift is as large as an image.
    """

    def __init__(self, source: ImageSource, shift_px: int, seed: int = 0) -> None:
        super().__init__(source)
        height, width = source.image_size
        if shift_px >= min(height, width):
            raise ValueError(
                f"shift_px={shift_px} exceeds the {height}x{width} images; pass fewer pixels than their sides"
            )
        self.shift_px = shift_px
        rng = np.random.default_rng([seed, shift_px])
        self._corners = rng.integers(0, 2 * shift_px + 1, (len(self), 2))  # top-left pixels in the padded images
        self._corners[: len(source)] = shift_px

    def __len__(self) -> int:
        return COPIES * len(self.source)

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`."""
        batch = self.source.fetch(indices % len(self.source))
        (height, width), pad = self.image_size, self.shift_px
        padded = functional.pad(batch.images.flatten(0, -4), (pad,) * 4, mode="reflect")
        padded = padded.view(*batch.images.shape[:-2], *padded.shape[-2:])
        corners = self._corners[indices.numpy()].tolist()
        images = [image[..., r : r + height, c : c + width] for image, (r, c) in zip(padded, corners, strict=True)]
        return Batch(torch.stack(images), batch.labels, torch.zeros_like(batch.boxes))

    def for_epoch(self, epoch: int) -> ShiftedCopies:
        """See `ImageSource.for_epoch`; the same in every epoch."""
        return self

    def expect(self, indices: np.ndarray) -> None:
        """See `ImageSource.expect`."""
        self.source.expect(indices % len(self.source))
