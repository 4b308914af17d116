"""Images for benchmarks: a few, repeated until they are as many as ImageNet's, so that no glance is remembered."""

from __future__ import annotations

import torch
from torch import Tensor

from classifiers.data.source import ArrayImages, Batch, SourceDefaults, nameless_classes

COUNT = 1_281_167
"""Images of ImageNet's training set."""


class EndlessImages(SourceDefaults):
    """Images in memory, repeated.

    Args:
        few: the different ones.
    """

    def __init__(self, few: ArrayImages) -> None:
        self._few = few
        self.class_names, self.image_size = few.class_names, few.image_size

    def __len__(self) -> int:
        return COUNT

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`."""
        return self._few.fetch(indices % len(self._few))


def noise_images(image_size: tuple[int, int], num_classes: int, count: int = 512) -> ArrayImages:
    """Pictures of noise."""
    return ArrayImages(
        torch.randint(0, 256, (count, 3, *image_size), dtype=torch.uint8),
        torch.arange(count) % num_classes,
        torch.zeros(count, 4, dtype=torch.int64),
        nameless_classes(num_classes),
    )
