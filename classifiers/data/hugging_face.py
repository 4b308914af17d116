"""Image sets of Hugging Face's `datasets`, by the types of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ImageColumns:
    """A set's image and label columns as (image, label), whatever their names are.

    Args:
        dataset: one split of a set of `datasets`, with one column of type `Image` and one of type `ClassLabel`.

    Raises:
        ValueError: if it has not exactly one of each.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._image, self._label = (_column(dataset, kind) for kind in ("Image", "ClassLabel"))
        self.classes = tuple(dataset.features[self._label].names)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self.dataset[index]
        return row[self._image], row[self._label]


def as_pairs(dataset: Any) -> Any:
    """A data set of (image, label): itself, unless it has columns with types, as those of `datasets` have.

    Raises:
        ValueError: if it has all splits in one, can't be indexed, or lacks the columns.
    """
    if isinstance(dataset, Mapping):
        splits = ", ".join(map(str, dataset))
        raise ValueError(
            f"the data set holds the splits {splits}; pass one of them: dataset=DATASET[{next(iter(dataset), '')!r}]"
        )
    if not isinstance(getattr(dataset, "features", None), Mapping):
        return dataset
    if not hasattr(dataset, "__len__"):
        raise ValueError("the data set is a stream, which has no index; load it with streaming=False")
    return ImageColumns(dataset)


def _column(dataset: Any, kind: str) -> str:
    found = [str(name) for name, feature in dataset.features.items() if type(feature).__name__ == kind]
    if len(found) != 1:
        columns = ", ".join(f"{name}: {type(feature).__name__}" for name, feature in dataset.features.items())
        advice = "cast_column or class_encode_column makes one" if not found else "select_columns chooses one"
        raise ValueError(f"the data set has {len(found)} columns of type {kind} ({columns}); pass one, {advice}")
    return found[0]
