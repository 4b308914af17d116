"""SignPair: two speed-limit signs far apart, and only both together tell the class.

One sign stands in the left third of the image, one in the right; no patch of 48 pixels holds both. Each shows one of
three limits, which stand for 0, 1 and 2. The class is (left + right) mod 3, so that one sign alone tells nothing.
"""

from __future__ import annotations

import random
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from classifiers.data.drawings import DrawnScenes, Scene, SignSceneSpec
from classifiers.data.drawn_tasks.boards import centered_at, draw_board, photographed

LIMITS = (30, 50, 80)
"""The limit that stands for 0, 1 and 2."""


class SignPairSpec(SignSceneSpec):
    """What the scenes of SignPair look like; equal specs draw equal scenes."""

    name = "sign_pair"
    version = 1
    classes = ("0", "1", "2")
    num_boxes = 2

    height: Annotated[int, Field(ge=96)] = 192
    width: Annotated[int, Field(ge=192)] = 256
    min_sign_px: Annotated[int, Field(ge=12)] = 30
    max_sign_px: Annotated[int, Field(le=48)] = 36

    def draw(self, rng: random.Random) -> Scene:
        """Draws a scene; its boxes are those of the left and of the right sign."""
        values = rng.randrange(3), rng.randrange(3)
        signs = []
        for side, value in enumerate(values):
            picture = draw_board(rng, "speed_limit", rng.uniform(self.min_sign_px, self.max_sign_px), LIMITS[value])
            left = rng.uniform(self.max_sign_px / 2, self.width / 3 - self.max_sign_px / 2)
            row = rng.uniform(self.max_sign_px / 2, self.height - self.max_sign_px / 2)
            signs.append(centered_at(picture, row, self.width - left if side else left))
        image = photographed(rng, self.height, self.width, signs)
        return Scene(image, sum(values) % 3, np.array([sign.box for sign in signs]))


class SignPair(DrawnScenes):
    """Scenes of SignPair.

    Attributes:
        scenes: what they look like.
    """

    kind: Literal["sign_pair"] = "sign_pair"
    scenes: SignPairSpec = SignPairSpec()
