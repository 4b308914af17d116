"""ImageNet's 1,000 classes, and the rows of a pretrained classifier that belong to given classes.

The classes' ids are those of WordNet's synsets, by which ImageNet's folders are named; pretrained networks number the
classes in the order of the sorted ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("imagenet_wordnet_ids.txt")


@cache
def imagenet_ids() -> tuple[str, ...]:
    """The 1,000 WordNet ids by label, such as `n01440764` (tench) for 0."""
    return tuple(_FILE.read_text(encoding="ascii").split())


def rows_of_classes(num_rows: int, num_classes: int, class_names: Sequence[str] | None) -> list[int] | None:
    """Finds the rows of a pretrained classifier that belong to a data set's classes.

    Args:
        num_rows: number of classes of the pretrained classifier.
        num_classes: number K of classes of the data set.
        class_names: their names by label, if known.

    Returns:
        K rows. Classes that are all named by ImageNet's WordNet ids have their own rows of an ImageNet classifier;
        equally many classes are otherwise taken for the same ones. None if the data set's classes are others.
    """
    labels = {name: label for label, name in enumerate(imagenet_ids())}
    if num_rows == len(labels) and class_names is not None and all(name in labels for name in class_names):
        return [labels[name] for name in class_names]
    return list(range(num_rows)) if num_rows == num_classes else None
