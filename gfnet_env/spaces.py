"""The environment's spaces, for one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces


def action_space(*, stop_action: bool = False) -> spaces.Box:
    """(row, col) of the next patch in [-1, 1]^2: 0 centred, -1 flush with the top or left edge, 1 bottom or right.

    Args:
        stop_action: whether a third component in [-1, 1] says whether to stop.

    Returns:
        `Box (2,)` or `Box (3,)`, float32.
    """
    return spaces.Box(-1.0, 1.0, (3 if stop_action else 2,), np.float32)


def observation_space(feature_shape: tuple[int, int, int], hidden_size: int, observe: Sequence[str]) -> spaces.Dict:
    """What pi sees (Section 3.2): the last input's feature maps, and the classifier's memory of all inputs.

    Args:
        feature_shape: (C, h, w) of the feature maps e_t.
        hidden_size: length F_h of the hidden state h^C_t.
        observe: which of the two, keys of `gfnet_env.episode.OBSERVATION_KEYS`.

    Returns:
        `Dict` of `features`, Box (C, h, w), and `hidden`, Box (F_h,), float32, any finite number.
    """
    # finite bounds rather than infinite ones: true, and env checkers warn of infinity
    most = float(np.finfo(np.float32).max)
    shapes = {"features": feature_shape, "hidden": (hidden_size,)}
    return spaces.Dict({key: spaces.Box(-most, most, shapes[key], np.float32) for key in shapes if key in observe})
