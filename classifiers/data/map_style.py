"""Images of any map-style torch data set, or of Hugging Face's `datasets`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from classifiers.data.decoding import UnreadableImageError, fit_image
from classifiers.data.source import Batch, ImageSource, batch_without_boxes, default_class_names

_FEW = 50_000  # images whose labels are looked at where nothing else says how many classes there are


class DatasetImages(ImageSource):
    """Any map-style torch data set of (image, label), or an image set of Hugging Face's `datasets`.

    Args:
        dataset: images as PIL images of any kind (see `classifiers.data.decoding`), or (3, H, W) or (1, H, W) tensors,
            uint8 or floats in [0, 1]; labels as whole numbers. Class names are taken from its attribute `classes`, or
            from that of the data set that it is a subset of.
        image_size: (H, W) in pixels to which images are scaled and cropped.
        is_deterministic: whether an index always gives the same picture; with random transforms it does not.

    Raises:
        ValueError: if the data set is empty, lacks the columns, hides its labels, or has no `classes` and too many
            labels to look at; in `fetch`, if an image or a label is not what it should be.
    """

    def __init__(self, dataset: Any, image_size: tuple[int, int], *, is_deterministic: bool = False) -> None:
        self.dataset = _as_pairs(dataset)
        if len(self.dataset) == 0:
            raise ValueError("the data set holds no image; pass one with at least one")
        self.image_size = image_size
        self.class_names = _class_names(self.dataset)
        self.is_deterministic = is_deterministic

    def __len__(self) -> int:
        return len(self.dataset)

    def fetch(self, indices: Tensor) -> Batch:
        items = [(index, *self.dataset[index]) for index in indices.tolist()]
        images = np.stack([self._fit(index, image) for index, image, _ in items])
        labels = [int(label) for _, _, label in items]
        _check_labels(labels, len(self.class_names))
        return batch_without_boxes(images, torch.tensor(labels))

    def _fit(self, index: int, image: Any) -> np.ndarray:
        try:
            return fit_image(_as_pil(image), self.image_size, 1.0, "bilinear")
        except UnreadableImageError as error:
            raise UnreadableImageError(f"image {index} of the data set can't be decoded ({error})") from error


def _as_pil(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        got = f"a tensor of shape {tuple(image.shape)}" if isinstance(image, Tensor) else f"a {type(image).__name__}"
        raise ValueError(f"the data set gave {got} as image; pass PIL images or (3, H, W) tensors")
    if image.is_floating_point():
        image = (image * 255.0).round()
    if not (image.min() >= 0 and image.max() <= 255):
        raise ValueError("the data set gave an image outside [0, 1], or [0, 255] for uint8; pass it not normalized")
    return Image.fromarray(image.to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


def _class_names(dataset: Any) -> tuple[str, ...]:
    """The names that the data set has for its classes, or the one that it is a subset of; numbers, if none has any."""
    labels = getattr(dataset, "targets", None)
    part = dataset
    while part is not None:
        if (names := getattr(part, "classes", None)) is not None:
            _check_labels(() if labels is None else labels, len(names))
            return tuple(map(str, names))
        part = getattr(part, "dataset", None)
    if labels is None:
        if len(dataset) > _FEW:
            raise ValueError(
                "the data set has neither `classes` nor `targets`; give it an attribute `classes` with the names"
            )
        labels = [dataset[index][1] for index in range(len(dataset))]
    count = 1 + max(map(int, labels))
    _check_labels(labels, count)
    return default_class_names(count)


def _check_labels(labels: Sequence[Any] | Tensor, num_classes: int) -> None:
    for label in map(int, labels):
        if label == -1:
            raise ValueError("the data set hides labels (-1), as public test splits do; pass a split that has them")
        if not 0 <= label < num_classes:
            raise ValueError(
                f"label {label} is outside 0 to {num_classes - 1}; give the data set a full `classes` attribute"
            )


class _ImageColumns:
    """A set of Hugging Face's as (image, label): its one column of type `Image` and its one of type `ClassLabel`."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._image, self._label = (_column(dataset, kind) for kind in ("Image", "ClassLabel"))
        self.classes = tuple(dataset.features[self._label].names)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self.dataset[index]
        if dropped := {self._image, self._label} - row.keys():
            raise ValueError(
                f"the data set's transform drops the column {min(dropped)!r}; pass DATASET.with_format(None)"
            )
        return row[self._image], row[self._label]


def _as_pairs(dataset: Any) -> Any:
    """A data set of (image, label): itself, unless it has columns with types, as those of `datasets` have."""
    if isinstance(dataset, Mapping):
        first = next(iter(dataset), "")
        raise ValueError(f"the data set holds the splits {', '.join(map(str, dataset))}; pass one: DATASET[{first!r}]")
    if not isinstance(getattr(dataset, "features", None), Mapping):
        return dataset
    if not hasattr(dataset, "__len__"):
        raise ValueError("the data set is a stream, which has no index; load it with streaming=False")
    return _ImageColumns(dataset)


def _column(dataset: Any, kind: str) -> str:
    """Name of the one column of a type."""
    found = [str(name) for name, feature in dataset.features.items() if type(feature).__name__ == kind]
    if len(found) != 1:
        columns = ", ".join(f"{name}: {type(feature).__name__}" for name, feature in dataset.features.items())
        raise ValueError(
            f"the data set has {len(found)} columns of type {kind} ({columns}); make it one by cast_column or "
            "select_columns"
        )
    return found[0]
