"""Images of any map-style torch data set."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from classifiers.data.decoding import UnreadableImageError, fit_image
from classifiers.data.hugging_face import as_pairs
from classifiers.data.source import Batch, SourceDefaults, batch_without_boxes


class _MapStyle(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class DatasetImages(SourceDefaults):
    """Any map-style torch data set of (image, label), or an image set of Hugging Face's `datasets`.

    Args:
        dataset: images as PIL images of any kind (see `classifiers.data.decoding`), or (3, H, W) or (1, H, W) tensors,
            uint8 or floats in [0, 1]; labels as whole numbers. Class names are taken from its attribute `classes` if it
            has one.
        image_size: (H, W) in pixels to which images are scaled and cropped.
        is_deterministic: whether an index always gives the same picture; with random transforms it does not.

    Raises:
        ValueError: if the data set is empty, lacks the columns, or has no `classes` and too many labels to look at.
    """

    def __init__(self, dataset: _MapStyle, image_size: tuple[int, int], *, is_deterministic: bool = False) -> None:
        dataset = as_pairs(dataset)
        if len(dataset) == 0:
            raise ValueError("the data set holds no image; pass one with at least one")
        self.dataset = dataset
        self.image_size = image_size
        self.class_names = _dataset_classes(dataset)
        self._is_deterministic = is_deterministic

    @property
    def is_deterministic(self) -> bool:
        """See `ImageSource.is_deterministic`."""
        return self._is_deterministic

    def __len__(self) -> int:
        return len(self.dataset)

    def fetch(self, indices: Tensor) -> Batch:
        """See `classifiers.data.source.ImageSource.fetch`.

        Raises:
            UnreadableImageError: if a PIL image can't be decoded.
            ValueError: if an image or a label is not what it should be.
        """
        items = [(index, *self.dataset[index]) for index in indices.tolist()]
        images = np.stack([self._fit(index, image) for index, image, _ in items])
        labels = torch.tensor([int(label) for _, _, label in items])
        if ((labels < 0) | (labels >= len(self.class_names))).any():
            raise ValueError(
                f"a label is outside 0 to {len(self.class_names) - 1}; give the data set a full `classes` attribute"
            )
        return batch_without_boxes(images, labels)

    def _fit(self, index: int, image: Any) -> np.ndarray:
        try:
            return fit_image(_as_pil(image), self.image_size, 1.0, "bilinear")
        except UnreadableImageError as error:
            raise UnreadableImageError(
                f"image {index} of the data set can't be decoded ({error}); leave it out"
            ) from error


def _as_pil(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        got = f"a tensor of shape {tuple(image.shape)}" if isinstance(image, Tensor) else f"a {type(image).__name__}"
        raise ValueError(f"the data set gave {got} as image; pass PIL images or (3, H, W) tensors")
    if image.is_floating_point():
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(
                "the data set gave a float image outside [0, 1]; pass it without normalisation, or as uint8"
            )
        image = (image * 255.0).round()
    elif not (image.min() >= 0 and image.max() <= 255):
        raise ValueError("the data set gave an image of whole numbers outside 0 to 255; pass uint8")
    return Image.fromarray(image.to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


def _dataset_classes(dataset: _MapStyle) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None)
    if names is not None:
        return tuple(str(name) for name in names)
    targets = getattr(dataset, "targets", None)
    if targets is None and len(dataset) > 50_000:
        raise ValueError(
            "the data set has neither `classes` nor `targets`; give it an attribute `classes` with the names"
        )
    labels = targets if targets is not None else [dataset[i][1] for i in range(len(dataset))]
    return tuple(str(label) for label in range(max(int(label) for label in labels) + 1))
