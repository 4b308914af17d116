"""The environment's spaces, for one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces


class ActionBox(spaces.Box):
    """Actions whose components have names: (row, col) of the next patch in [-1, 1]^2, then further decisions.

    0 is centred, -1 flush with the top or left edge, 1 with the bottom or right edge.

    Args:
        names: of the components.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(-1.0, 1.0, (len(names),), np.float32)
        self.names = names


def observation_space(
    feature_shape: tuple[int, int, int], hidden_size: int, num_glimpses: int, num_sizes: int, keys: Sequence[str]
) -> spaces.Dict:
    """The space of `gfnet_env.observation.observe`.

    Args:
        feature_shape: (C, h, w) of the feature maps e_t.
        hidden_size: length F_h of the hidden state h^C_t.
        num_glimpses: longest sequence T, the glance counted.
        num_sizes: K patch sizes.
        keys: which of `gfnet_env.observation.OBSERVATION_KEYS`.

    Returns:
        A `Dict` of float32 boxes; feature maps and hidden state are unbounded.
    """
    parts = {
        "features": spaces.Box(-np.inf, np.inf, feature_shape, np.float32),
        "hidden": spaces.Box(-np.inf, np.inf, (hidden_size,), np.float32),
        "locations": spaces.Box(0.0, 1.0, (num_glimpses - 1, 2), np.float32),
        "progress": spaces.Box(0.0, 1.0, (num_glimpses,), np.float32),
        "glance": spaces.Box(-np.inf, np.inf, feature_shape, np.float32),
        "last_size": spaces.Box(0.0, 1.0, (num_sizes,), np.float32),
        "next_size": spaces.Box(0.0, 1.0, (num_sizes,), np.float32),
    }
    return spaces.Dict({key: part for key, part in parts.items() if key in keys})
