"""What every source of images or clips answers, for training, the environment and evaluation.

A source returns batches of uint8 images, or clips, of one size by index; what reaches the device is bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """Images, what they show, and where.

    Attributes:
        images: (B, 3, H, W) or, clips of F frames, (B, F, 3, H, W); uint8, RGB.
        labels: (B,) int64.
        boxes: (B, 4) int64 (top, left, bottom, right) in pixels of what decides the label, bottom and right exclusive;
            in a clip, of where it is in all frames together; all zero where unknown.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor


class ImageSource(Protocol):
    """A finite collection of labelled images of one size; `SourceDefaults` has the answers that most sources share."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes, by label."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        ...

    @property
    def num_frames(self) -> int | None:
        """Frames F of each clip; None for images."""
        ...

    def __len__(self) -> int: ...

    def fetch(self, indices: Tensor) -> Batch:
        """The images at (B,) int64 indices in [0, len(self))."""
        ...

    @property
    def is_deterministic(self) -> bool:
        """Whether an index always gives the same picture, so that what was computed from it can be remembered."""
        ...

    @property
    def decodes_files(self) -> bool:
        """Whether a fetch decodes files, or draws, so that a `Prefetcher` saves time."""
        ...

    @property
    def num_skipped(self) -> int:
        """Unreadable images that were left out."""
        ...

    @property
    def num_short(self) -> int:
        """Clips with fewer frames than F, as far as that is known without decoding: some of theirs are repeated."""
        ...

    def for_epoch(self, epoch: int) -> ImageSource:
        """The images as training sees them in an epoch, counted from 0."""
        ...

    def expect(self, indices: np.ndarray) -> None:
        """Announces all images, (B,) int64, that the next fetches will ask for, so that they can be prepared."""
        ...

    def close(self) -> None:
        """Ends background work; a later fetch starts it again."""
        ...


class SourceDefaults:
    """The answers of a source that gives the same image for an index every time and prepares nothing in advance."""

    @property
    def num_frames(self) -> int | None:
        """See `ImageSource.num_frames`."""
        return None

    @property
    def is_deterministic(self) -> bool:
        """See `ImageSource.is_deterministic`."""
        return True

    @property
    def decodes_files(self) -> bool:
        """See `ImageSource.decodes_files`."""
        return False

    @property
    def num_skipped(self) -> int:
        """See `ImageSource.num_skipped`."""
        return 0

    @property
    def num_short(self) -> int:
        """See `ImageSource.num_short`."""
        return 0

    def for_epoch(self, epoch: int) -> Self:
        """See `ImageSource.for_epoch`."""
        return self

    def expect(self, indices: np.ndarray) -> None:
        """See `ImageSource.expect`."""

    def close(self) -> None:
        """See `ImageSource.close`."""


@dataclass(frozen=True)
class ArrayImages(SourceDefaults):
    """Images or clips in memory.

    Attributes:
        images: (N, 3, H, W) or (N, F, 3, H, W), uint8, RGB.
        labels: (N,) int64.
        boxes: (N, 4) int64, see `Batch.boxes`.
        class_names: names of the K classes, by label.
        num_skipped: unreadable images that were left out.
        num_short: see `ImageSource.num_short`.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor
    class_names: tuple[str, ...]
    num_skipped: int = 0
    num_short: int = 0

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def num_frames(self) -> int | None:
        """See `ImageSource.num_frames`."""
        return self.images.shape[1] if self.images.ndim == 5 else None

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`."""
        return Batch(self.images.index_select(0, indices), self.labels[indices], self.boxes[indices])


_Source = TypeVar("_Source", bound=ImageSource)


class SourceView(Generic[_Source]):
    """Another source's images, to be fetched in another way; what a subclass does not answer, the source answers.

    Args:
        source: the images.
    """

    def __init__(self, source: _Source) -> None:
        self.source = source

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `ImageSource.class_names`."""
        return self.source.class_names

    @property
    def image_size(self) -> tuple[int, int]:
        """See `ImageSource.image_size`."""
        return self.source.image_size

    @property
    def num_frames(self) -> int | None:
        """See `ImageSource.num_frames`."""
        return self.source.num_frames

    def __len__(self) -> int:
        return len(self.source)

    @property
    def is_deterministic(self) -> bool:
        """See `ImageSource.is_deterministic`."""
        return self.source.is_deterministic

    @property
    def decodes_files(self) -> bool:
        """See `ImageSource.decodes_files`."""
        return self.source.decodes_files

    @property
    def num_skipped(self) -> int:
        """See `ImageSource.num_skipped`."""
        return self.source.num_skipped

    @property
    def num_short(self) -> int:
        """See `ImageSource.num_short`."""
        return self.source.num_short

    def expect(self, indices: np.ndarray) -> None:
        """See `ImageSource.expect`."""
        self.source.expect(indices)

    def close(self) -> None:
        """See `ImageSource.close`."""
        self.source.close()


def batch_without_boxes(images: np.ndarray, labels: Tensor) -> Batch:
    """A batch of images without boxes.

    Args:
        images: (B, H, W, 3) uint8, RGB.
        labels: (B,) int64.

    Returns:
        The batch, its boxes all zero.
    """
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Batch(pixels, labels, torch.zeros(len(labels), 4, dtype=torch.int64))


def nameless_classes(count: int) -> tuple[str, ...]:
    """Names for classes that have none: `"0"`, `"1"`, ..."""
    return tuple(str(index) for index in range(count))


def are_same_classes(known: tuple[str, ...], here: tuple[str, ...]) -> bool:
    """Whether a classifier's classes can be a data set's: equal names, or as many where the classifier's have none."""
    return known == here or (len(known) == len(here) and known == nameless_classes(len(known)))
