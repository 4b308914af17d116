"""The environment's spaces, for one image."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces


def action_space() -> spaces.Box:
    """(row, col) of the next patch in [-1, 1]^2: 0 centred, -1 flush with the top or left edge, 1 bottom or right."""
    return spaces.Box(-1.0, 1.0, (2,), np.float32)


def observation_space(feature_shape: tuple[int, int, int], hidden_size: int) -> spaces.Dict:
    """What pi sees (Section 3.2): the last input's feature maps, and the classifier's memory of all inputs.

    Args:
        feature_shape: (C, h, w) of the feature maps e_t.
        hidden_size: length F_h of the hidden state h^C_t.

    Returns:
        `Dict(features=Box (C, h, w), hidden=Box (F_h,))`, float32, any finite number.
    """
    # finite bounds rather than infinite ones: true, and env checkers warn of infinity
    most = float(np.finfo(np.float32).max)
    return spaces.Dict(
        {
            "features": spaces.Box(-most, most, feature_shape, np.float32),
            "hidden": spaces.Box(-most, most, (hidden_size,), np.float32),
        }
    )
