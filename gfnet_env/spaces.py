"""The environment's spaces, for one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces


def action_space(*, stop_action: bool = False) -> spaces.Box:
    """(row, col) of the next patch in [-1, 1]^2: 0 centred, -1 flush with the top or left edge, 1 bottom or right.

    Args:
        stop_action: whether there is a third component in [-1, 1], the decision to stop.

    Returns:
        `Box (2,)` or `Box (3,)`, float32.
    """
    return spaces.Box(-1.0, 1.0, (3 if stop_action else 2,), np.float32)


def observation_space(
    feature_shape: tuple[int, int, int], hidden_size: int, num_glimpses: int, keys: Sequence[str]
) -> spaces.Dict:
    """The space of `gfnet_env.observation.observe`.

    Args:
        feature_shape: (C, h, w) of the feature maps e_t.
        hidden_size: length F_h of the hidden state h^C_t.
        num_glimpses: longest sequence T, the glance counted.
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
    }
    return spaces.Dict({key: part for key, part in parts.items() if key in keys})
