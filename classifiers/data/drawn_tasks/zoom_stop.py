"""ZoomStop: a speed-limit sign of any size, or none at all; how large a patch is it worth, and is there one to read?

Half of the scenes are empty; their class is "none". The other half hold one sign with one of nine limits, all equally
likely. The logarithm of its diameter is uniform, so that a sign of 16 to 32 pixels is as frequent as one of 48 to 96.
It stands anywhere between one sixteenth and four fifths of the image's height.
"""

from __future__ import annotations

import math
import random
from typing import Annotated, Literal

import numpy as np
from PIL import ImageDraw
from pydantic import Field

from classifiers.data.drawings import DrawnScenes, Scene, SignSceneSpec
from classifiers.data.synthetic_signs.scenery import draw_pole, draw_scenery, photograph
from classifiers.data.synthetic_signs.signs import CLASS_NAMES, SPEED_LIMITS, draw_sign


class ZoomStopSpec(SignSceneSpec):
    """What the scenes of ZoomStop look like; equal specs draw equal scenes."""

    name = "zoom_stop"
    version = 1
    classes = CLASS_NAMES

    min_sign_px: Annotated[int, Field(ge=4)] = 16
    max_sign_px: int = 96

    def draw(self, rng: random.Random) -> Scene:
        """Draws a scene; its box is the sign's, all zero where there is none."""
        label = rng.randint(1, len(SPEED_LIMITS)) if rng.random() < 0.5 else 0
        scene = draw_scenery(rng, self.height, self.width)
        box = np.zeros((1, 4), dtype=np.int64)
        if label:
            diameter = math.exp(rng.uniform(math.log(self.min_sign_px), math.log(self.max_sign_px)))
            sign = draw_sign(rng, "speed_limit", diameter, SPEED_LIMITS[label - 1])
            top = rng.randrange(self.height // 16, int(0.8 * self.height) - sign.height)
            left = rng.randrange(2, self.width - sign.width - 2)
            bottom, right = top + sign.height, left + sign.width
            draw_pole(ImageDraw.Draw(scene), (left + right) // 2, bottom - 2, min(self.height, 3 * bottom - 2 * top), 1)
            scene.paste(sign, (left, top), sign)
            box[:] = top, left, bottom, right
        return Scene(photograph(rng, scene), label, box)


class ZoomStop(DrawnScenes):
    """Scenes of ZoomStop.

    Attributes:
        scenes: what they look like.
    """

    kind: Literal["zoom_stop"] = "zoom_stop"
    scenes: ZoomStopSpec = ZoomStopSpec()
