"""The interface of sources of images or clips, for training, the environment and evaluation.

A source returns batches of uint8 images, or clips, of one size by index; what reaches the device is bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """Images, what they show, and where.

    Attributes:
        images: (B, 3, H, W) or, clips of F frames, (B, F, 3, H, W); uint8, RGB.
        labels: (B,) int64.
        boxes: (B, N, 4) int64 (top, left, bottom, right) in pixels of the N >= 1 objects that decide the label, in the
            order in which the reference policy visits them; bottom and right exclusive; in a clip, of where they are in
            all frames together; all zero where unknown or where an image has fewer.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor


class ImageSource(ABC):
    """A finite collection of labeled images, or clips, of one size.

    Attributes:
        class_names: names of the K classes, by label.
        image_size: (H, W) in pixels.
        num_frames: frames F of each clip; None for images.
        is_deterministic: whether an index always gives the same picture, so that what was computed from it can be
            remembered.
        decodes_files: whether a fetch decodes files, or draws, so that a `Prefetcher` saves time.
        num_skipped: unreadable images that were left out.
        num_boxes: boxes N of each image, see `Batch.boxes`.
    """

    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    num_frames: int | None = None
    is_deterministic: bool = True
    decodes_files: bool = False
    num_skipped: int = 0
    num_boxes: int = 1

    @property
    def num_short(self) -> int:
        """Clips with fewer than F frames, of which some are repeated, as far as that is known without decoding."""
        return 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def fetch(self, indices: Tensor) -> Batch:
        """The images at (B,) int64 indices in [0, len(self)).

        Raises:
            UnreadableImageError: if one can't be decoded.
        """

    def all_labels(self) -> Tensor:
        """The labels of all images, (L,) int64; a source that knows them need not fetch the images."""
        return torch.cat([self.fetch(indices).labels for indices in torch.arange(len(self)).split(256)])

    def for_epoch(self, epoch: int) -> ImageSource:
        """The images as training sees them in an epoch, counted from 0."""
        return self

    def prefetch(self, indices: np.ndarray) -> None:
        """Announces all images, (B,) int64, that the next fetches will ask for, so that they can be prepared."""
        return

    def close(self) -> None:
        """Ends background work; a later fetch starts it again."""
        return


class ArrayImages(ImageSource):
    """Images or clips in memory.

    Args:
        images: (L, 3, H, W) or (L, F, 3, H, W), uint8, RGB.
        labels: (L,) int64.
        boxes: (L, N, 4) int64, see `Batch.boxes`, or (L, 4) with one for each image.
        class_names: names of the K classes, by label.
        num_skipped: unreadable images that were left out.
        num_short: clips of which some frames are repeated.
    """

    num_short: int = 0

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        boxes: Tensor,
        class_names: tuple[str, ...],
        num_skipped: int = 0,
        num_short: int = 0,
    ) -> None:
        boxes = boxes[:, None] if boxes.ndim == 2 else boxes
        self.images, self.labels, self.boxes, self.class_names = images, labels, boxes, class_names
        self.num_skipped, self.num_short, self.num_boxes = num_skipped, num_short, boxes.shape[1]
        self.image_size = (images.shape[-2], images.shape[-1])
        self.num_frames = images.shape[1] if images.ndim == 5 else None
        self._copies: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return len(self.images)

    def on(self, device: torch.device) -> Tensor:
        """All images on a device, to which they are copied once: always the same tensor."""
        if device == self.images.device:
            return self.images
        if device not in self._copies:
            self._copies[device] = self.images.to(device)
        return self._copies[device]

    def fetch(self, indices: Tensor) -> Batch:
        return Batch(self.images.index_select(0, indices), self.labels[indices], self.boxes[indices])

    def all_labels(self) -> Tensor:
        return self.labels


_Source = TypeVar("_Source", bound=ImageSource)


class SourceView(ImageSource, Generic[_Source]):
    """A wrapper around another source; what a subclass does not define is the source's.

    Args:
        source: the images.
    """

    def __init__(self, source: _Source) -> None:
        self.source = source
        self.class_names, self.image_size, self.num_frames = source.class_names, source.image_size, source.num_frames
        self.is_deterministic, self.decodes_files = source.is_deterministic, source.decodes_files
        self.num_skipped, self.num_boxes = source.num_skipped, source.num_boxes

    @property
    def num_short(self) -> int:
        return self.source.num_short

    def __len__(self) -> int:
        return len(self.source)

    def prefetch(self, indices: np.ndarray) -> None:
        self.source.prefetch(indices)

    def close(self) -> None:
        self.source.close()


def batch_without_boxes(images: np.ndarray, labels: Tensor) -> Batch:
    """A batch of images (B, H, W, 3) or clips (B, F, H, W, 3), uint8, and their labels (B,); its box is all zero."""
    pixels = torch.from_numpy(images).movedim(-1, -3).contiguous()
    return Batch(pixels, labels, torch.zeros(len(labels), 1, 4, dtype=torch.int64))


def in_memory(source: ImageSource, on_progress: Callable[[int, int], None] | None = None) -> ArrayImages:
    """Fetches all images of a source once and keeps the pixels.

    Raises:
        UnreadableImageError: if a file can't be decoded.
    """
    parts = []
    for indices in torch.arange(len(source)).split(256):
        parts.append(source.fetch(indices))
        if on_progress is not None:
            on_progress(int(indices[-1]) + 1, len(source))
    images, labels, boxes = (torch.cat([getattr(part, name) for part in parts]) for name in Batch._fields)
    return ArrayImages(images, labels, boxes, source.class_names, source.num_skipped, source.num_short)


def default_class_names(count: int) -> tuple[str, ...]:
    """Names for classes that have none: `"0"`, `"1"`, ..."""
    return tuple(str(index) for index in range(count))


def are_same_classes(known: tuple[str, ...], here: tuple[str, ...]) -> bool:
    """Whether a classifier's classes can be a data set's: equal names, or as many where the classifier's have none.

    Names decide where both have some: folders `0` to `10` are sorted as text, and are not the classes 0 to 10 that a
    data set without names counts.
    """
    is_nameless = known == default_class_names(len(here)) and set(known) != set(here)
    return known == here or is_nameless
