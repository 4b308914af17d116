"""What an agent observes: tensors by name, made from the classifier's view and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from classifiers.networks.glimpse import View

OBSERVATION_KEYS = ("features", "hidden", "locations", "progress", "glance")
"""What an agent may observe, by name; see `observe`."""

DEFAULT_OBSERVATION = ("features", "hidden", "locations", "progress")
"""What it observes by default: enough to tell which looks were taken so far."""


def observe(view: View, keys: Sequence[str]) -> dict[str, Tensor]:
    """The observation of B episodes.

    Args:
        view: what there is to see.
        keys: which of `OBSERVATION_KEYS`.

    Returns:
        Float32 tensors by name: `features` (B, C, h, w), the feature maps e_t of the last input; `hidden` (B, F_h), the
        classifier's hidden state h^C_t; `locations` (B, T - 1, 2) in [0, 1], (row, col) of the looks so far, zeros
        where none was taken; `progress` (B, T), one-hot of the number of glimpses so far; `glance` (B, C, h, w), the
        feature maps of the glance.
    """
    num_glimpses = view.locations.shape[1] + 1
    made = {
        "features": lambda: view.glimpse.features,
        "hidden": lambda: view.glimpse.hidden,
        "locations": lambda: view.locations,
        "progress": lambda: functional.one_hot(view.step - 1, num_glimpses),
        "glance": lambda: view.glance,
    }
    return {key: made[key]().to(torch.float32) for key in keys}
