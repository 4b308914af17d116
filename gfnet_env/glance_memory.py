"""Glances that were taken before: the classifier is frozen, so an image's glance never changes."""

from __future__ import annotations

import torch
from torch import Tensor

from classifiers.frozen import FrozenClassifier
from classifiers.glance_focus import Glimpse

_MOST_BYTES = 1 << 29


class GlanceMemory:
    """Remembers glances by image index, within half a gibibyte.

    Resizing a scene and encoding it costs more than a patch does, and training visits each image many times.

    Args:
        classifier: the frozen networks.
        num_images: how many images there are.
    """

    def __init__(self, classifier: FrozenClassifier, num_images: int) -> None:
        self._classifier = classifier
        self._num_images = num_images
        self._kept: list[Tensor] | None = None
        self._is_kept = torch.zeros(num_images, dtype=torch.bool)

    def glance(self, indices: Tensor, images: Tensor) -> Glimpse:
        """The glimpses of some images.

        Args:
            indices: (R,) int64, which images of the source these are.
            images: (R, 3, H, W) uint8.

        Returns:
            What `classifier.glance(images)` returns.
        """
        new = ~self._is_kept[indices]
        if new.all():
            glimpse = self._classifier.glance(images)
            self._keep(indices, glimpse)
            return glimpse
        assert self._kept is not None
        if new.any():
            self._keep(indices[new], self._classifier.glance(images[new.to(images.device)]))
        where = indices.to(images.device)
        return Glimpse(*(part[where] for part in self._kept))

    def _keep(self, indices: Tensor, glimpse: Glimpse) -> None:
        if self._kept is None:
            bytes_each = sum(part[0].numel() * part.element_size() for part in glimpse)
            if bytes_each * self._num_images > _MOST_BYTES:
                return
            self._kept = [part.new_empty(self._num_images, *part.shape[1:]) for part in glimpse]
        for kept, part in zip(self._kept, glimpse, strict=True):
            kept[indices.to(part.device)] = part
        self._is_kept[indices] = True
