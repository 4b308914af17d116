"""A cache of glances: the classifier is frozen, so the glance of an unchanged image never changes."""

from __future__ import annotations

import torch
from torch import Tensor

from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.glimpse import Glimpse

_MOST_BYTES = 1 << 29
_MOST_AT_ONCE = 32


class GlanceCache:
    """Keeps glances by image index, within half a gibibyte; for deterministic sources only.

    A glance costs more than a patch, and training visits each image many times. The last digits of an encoding may
    depend on how many images are encoded together, so the cache always encodes the same number. An interrupted training
    that resumes with an empty cache therefore ends with the same policy.

    Args:
        classifier: the frozen networks.
        num_images: how many images there are.
        num_rows: most images per call.
    """

    def __init__(self, classifier: FrozenClassifier, num_images: int, num_rows: int) -> None:
        self._classifier = classifier
        self._num_images = num_images
        self._at_once = min(_MOST_AT_ONCE, num_rows)
        self._fits: bool | None = None
        self._kept: list[Tensor] | None = None
        self._is_kept = torch.zeros(num_images, dtype=torch.bool)

    def glance(self, indices: Tensor, images: Tensor, place: Tensor) -> Glimpse:
        """The glimpses of some images.

        Args:
            indices: (R,) int64 on the CPU, which images of the source these are.
            images: (N, 3, H, W) uint8.
            place: (R,) int64, where they are among these.

        Returns:
            What `classifier.glance(images[place])` returns.
        """
        if self._kept is None and not self._make_room(images[place[:1]]):
            return self._classifier.glance(images[place])
        assert self._kept is not None
        new = torch.nonzero(~self._is_kept[indices])[:, 0]
        for start in range(0, len(new), self._at_once):
            part = new[start : start + self._at_once]
            same_number = part[torch.arange(self._at_once).clamp(max=len(part) - 1)]  # repeats the last one
            glimpse = self._classifier.glance(images[place[same_number.to(place.device)]])
            for kept, values in zip(self._kept, glimpse, strict=True):
                kept[indices[part].to(kept.device)] = values[: len(part)]
            self._is_kept[indices[part]] = True
        where = indices.to(images.device)
        return Glimpse(*(kept[where] for kept in self._kept))

    def _make_room(self, image: Tensor) -> bool:
        """Whether all glances fit; decided at the first call, by the example (1, 3, H, W)."""
        if self._fits is None:
            example = self._classifier.glance(image)
            bytes_each = sum(part.numel() * part.element_size() for part in example)
            self._fits = bytes_each * self._num_images <= _MOST_BYTES
            if self._fits:
                self._kept = [part.new_empty(self._num_images, *part.shape[1:]) for part in example]
        return self._fits
