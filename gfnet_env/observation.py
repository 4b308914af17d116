"""What an agent observes: tensors by name, made from the classifier's view and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from classifiers.networks.glimpse import View

SIZE_KEYS = ("last_size", "next_size")
"""What there is to observe only where patches have several sizes."""

OBSERVATION_KEYS = ("features", "hidden", "locations", "progress", "glance", *SIZE_KEYS)
"""What an agent may observe, by name; see `observe`."""

DEFAULT_OBSERVATION = ("features", "hidden", "locations", "progress")
"""What it observes by default, enough to tell which looks were taken so far; `observed_keys` adds the sizes."""


def observed_keys(observe: Sequence[str], num_sizes: int, *, size_action: bool) -> tuple[str, ...]:
    """What is observed of an environment: the default shows the sizes, too, where there are several.

    Args:
        observe: what its rules ask for, of `OBSERVATION_KEYS`.
        num_sizes: K patch sizes.
        size_action: whether the agent chooses the next size, so that it is not known before.

    Returns:
        The keys.

    Raises:
        ValueError: if one of them asks for a size that there is not.
    """
    known = () if num_sizes == 1 else SIZE_KEYS[:1] if size_action else SIZE_KEYS
    for key in SIZE_KEYS:
        if key in observe and key not in known:
            why = "all patches have one size" if num_sizes == 1 else "size_action lets the agent choose it"
            raise ValueError(f"observe holds {key!r}, but {why}; leave it out of observe")
    return (*observe, *known) if tuple(observe) == DEFAULT_OBSERVATION else tuple(observe)


def observe(view: View, keys: Sequence[str]) -> dict[str, Tensor]:
    """The observation of B episodes.

    Args:
        view: what there is to see.
        keys: which of `OBSERVATION_KEYS`.

    Returns:
        Float32 tensors by name: `features` (B, C, h, w), the feature maps e_t of the last input; `hidden` (B, F_h), the
        classifier's hidden state h^C_t; `locations` (B, T - 1, 2) in [0, 1], (row, col) of the looks so far, zeros
        where none was taken; `progress` (B, T), one-hot of the number of glimpses so far; `glance` (B, C, h, w), the
        feature maps of the glance; with K patch sizes `last_size` (B, K), one-hot of the last patch's, zeros after the
        glance, and `next_size` (B, K), one-hot of that of the patch to place.

    Raises:
        ValueError: if the sizes are asked for and there is only one.
    """
    num_glimpses = view.locations.shape[1] + 1
    made = {
        "features": lambda: view.glimpse.features,
        "hidden": lambda: view.glimpse.hidden,
        "locations": lambda: view.locations,
        "progress": lambda: functional.one_hot(view.step - 1, num_glimpses),
        "glance": lambda: view.glance,
        "last_size": lambda: _several(view.last_size),
        "next_size": lambda: _several(view.next_size),
    }
    return {key: made[key]().to(torch.float32) for key in keys}


def _several(size: Tensor | None) -> Tensor:
    if size is None:
        raise ValueError(
            "the policy reads the sizes of patches, but they have one size; pass the patch_sizes that it was trained "
            "with"
        )
    return size
