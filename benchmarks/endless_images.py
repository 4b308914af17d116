"""Images for benchmarks: a few that stand for a whole data set, so that glances are repeated only as often as there."""

from __future__ import annotations

import torch
from torch import Tensor

from classifiers.data.source import ArrayImages, Batch, SourceDefaults, nameless_classes

COUNT = 1_281_167
"""Images of ImageNet's training set."""


class EndlessImages(SourceDefaults):
    """A few images in memory, repeated under many indices.

    Args:
        few: the images that differ.
        count: how many indices there are.
    """

    def __init__(self, few: ArrayImages, count: int = COUNT) -> None:
        self._few, self._count = few, count
        self.class_names, self.image_size = few.class_names, few.image_size
        self._num_frames = few.num_frames

    @property
    def num_frames(self) -> int | None:
        """See `ImageSource.num_frames`."""
        return self._num_frames

    def __len__(self) -> int:
        return self._count

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`."""
        return self._few.fetch(indices % len(self._few))


def noise_images(
    image_size: tuple[int, int], num_classes: int, count: int = 512, num_frames: int | None = None
) -> ArrayImages:
    """Images of noise.

    Args:
        image_size: (H, W) in pixels.
        num_classes: number of labels, which take turns.
        count: number of images.
        num_frames: frames of clips; None makes images.
    """
    frames = () if num_frames is None else (num_frames,)
    return ArrayImages(
        torch.randint(0, 256, (count, *frames, 3, *image_size), dtype=torch.uint8),
        torch.arange(count) % num_classes,
        torch.zeros(count, 4, dtype=torch.int64),
        nameless_classes(num_classes),
    )
