"""Where images come from: one small contract for training, the environment and evaluation.

A source hands out batches of uint8 images of one size by index. Decoding stays here; the device sees bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """Images, what they show, and where.

    Attributes:
        images: (B, 3, H, W) uint8, RGB.
        labels: (B,) int64.
        boxes: (B, 4) int64 (top, left, bottom, right) in pixels of what decides the label, bottom and right exclusive;
            all zero where unknown.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor


class ImageSource(Protocol):
    """A finite collection of labelled images of one size."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes, by label."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        ...

    def __len__(self) -> int: ...

    def fetch(self, indices: Tensor) -> Batch:
        """The images at (B,) int64 indices in [0, len(self))."""
        ...


@dataclass(frozen=True)
class ArrayImages:
    """Images that lie in memory.

    Attributes:
        images: (N, 3, H, W) uint8, RGB.
        labels: (N,) int64.
        boxes: (N, 4) int64, see `Batch.boxes`.
        class_names: names of the K classes, by label.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor
    class_names: tuple[str, ...]

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`."""
        return Batch(self.images.index_select(0, indices), self.labels[indices], self.boxes[indices])


def batch_without_boxes(images: np.ndarray, labels: Tensor) -> Batch:
    """A batch of images in which nobody has marked what decides the label.

    Args:
        images: (B, H, W, 3) uint8, RGB.
        labels: (B,) int64.

    Returns:
        The batch, its boxes all zero.
    """
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Batch(pixels, labels, torch.zeros(len(labels), 4, dtype=torch.int64))


def nameless_classes(count: int) -> tuple[str, ...]:
    """Names of classes that nobody has named: `"0"`, `"1"`, ..."""
    return tuple(str(index) for index in range(count))


def are_same_classes(known: tuple[str, ...], here: tuple[str, ...]) -> bool:
    """Whether a classifier's classes can be a data set's: equal names, or as many where the classifier's have none."""
    return known == here or (len(known) == len(here) and known == nameless_classes(len(known)))


def batches(source: ImageSource, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
    """Goes once through a source.

    Args:
        source: the images.
        batch_size: images in a batch; the last one may hold fewer.
        generator: shuffles the images; None keeps their order.

    Yields:
        The batches.
    """
    order = torch.arange(len(source)) if generator is None else torch.randperm(len(source), generator=generator)
    for indices in order.split(batch_size):
        yield source.fetch(indices)
