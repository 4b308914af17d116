"""A part of the training images set aside to choose by, where a data set has none of its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

_SEED = 0  # the same images for every run, whatever its seed


def held_out(labels: Tensor, groups: Sequence[Hashable], share: float) -> Tensor:
    """Chooses the images to set aside: the same share of every class, and whole groups.

    Args:
        labels: (N,) int64.
        groups: of the N images, what belongs together, such as the frames of one sign; a group has one label.
        share: of the groups of a class, in (0, 1), rounded; at least one, if there is another.

    Returns:
        (N,) bool, true for the images to set aside; the same ones every time.
    """
    rng = np.random.default_rng(_SEED)
    chosen: set[tuple[int, Hashable]] = set()
    keys = list(zip(labels.tolist(), groups, strict=True))
    by_class: dict[int, dict[Hashable, None]] = {}  # a dict keeps the order, a set does not
    for label, group in keys:
        by_class.setdefault(label, {})[group] = None
    for label in sorted(by_class):
        of_class = list(by_class[label])
        count = min(max(1, round(share * len(of_class))), len(of_class) - 1)
        chosen |= {(label, of_class[index]) for index in rng.permutation(len(of_class))[:count]}
    return torch.tensor([key in chosen for key in keys])
