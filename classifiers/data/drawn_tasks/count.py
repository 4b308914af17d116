"""Count: the class is how many of the speed-limit signs say 50.

All signs look alike in the glance, and each says 50 with probability 0.5, else 80.
"""

from __future__ import annotations

import random
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from classifiers.data.drawings import DrawnScenes, Scene, SignSceneSpec
from classifiers.data.drawn_tasks.boards import centered_at, draw_board, photographed, scattered

NUM_SIGNS = 3
"""Signs in a scene."""

COUNTED, OTHER = 50, 80
"""The limit that is counted, and the other one."""


class CountSpec(SignSceneSpec):
    """What the scenes of Count look like; equal specs draw equal scenes."""

    name = "count"
    version = 2
    classes = tuple(str(count) for count in range(NUM_SIGNS + 1))
    num_boxes = NUM_SIGNS

    height: Annotated[int, Field(ge=192)] = 192
    width: Annotated[int, Field(ge=256)] = 256
    min_sign_px: Annotated[int, Field(ge=12)] = 30
    max_sign_px: Annotated[int, Field(le=40)] = 36

    def draw(self, rng: random.Random) -> Scene:
        """Draws a scene; its boxes are those of the signs in reading order of their rows, 50s and others alike."""
        centers = sorted(scattered(rng, self.height, self.width, NUM_SIGNS, self.max_sign_px // 2, 64))
        limits = [rng.choice((COUNTED, OTHER)) for _ in centers]
        signs = []
        for (row, column), limit in zip(centers, limits, strict=True):
            picture = draw_board(rng, "speed_limit", rng.uniform(self.min_sign_px, self.max_sign_px), limit)
            signs.append(centered_at(picture, row, column))
        image = photographed(rng, self.height, self.width, signs)
        return Scene(image, limits.count(COUNTED), np.array([sign.box for sign in signs]))


class Count(DrawnScenes):
    """Scenes of Count.

    Attributes:
        scenes: what they look like.
    """

    kind: Literal["count"] = "count"
    scenes: CountSpec = CountSpec()
