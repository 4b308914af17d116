"""What the color classifier must say of the images with a red corner (conftest), in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from classifiers.inference.frozen import FrozenClassifier

MakeClassifier = Callable[..., FrozenClassifier]
"""The fixture `color_classifier`."""

MEAN = (120 + 135 / 16, 120 - 120 / 16)
"""Mean (red, green) of an image with a red corner."""
RED, GRAY = (255.0, 0.0), (120.0, 120.0)


def red_probability(*looks: tuple[float, float]) -> float:
    """Class 0's probability after looks at patches of these mean (red, green) pixels, logits averaged."""
    red, green = (np.mean([look[channel] for look in looks]) / 255.0 for channel in (0, 1))
    return float(1.0 / (1.0 + np.exp((green - 0.456) / 0.224 - (red - 0.485) / 0.229)))


def action(row: float, column: float, *stop: float) -> np.ndarray:
    """Where to look in [-1, 1], and with a stop action whether to."""
    return np.array([row, column, *stop], np.float32)
