"""Pointer: a sign with an arrow says which of the discs around it holds the class.

The sign stands near the middle of the scene and is seen in the glance; its arrow is read in a patch alone. Every disc
holds a digit. Discs are so far from the sign that no patch of 64 pixels shows both. Of 16 discs, eight are nearer: then
an arrow with one head means the near disc in its direction, an arrow with two heads the far one.
"""

from __future__ import annotations

import random
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from classifiers.data.drawings import DrawingSpec, DrawnScenes, Scene
from classifiers.data.drawn_tasks.boards import DIRECTIONS, NUM_DIGITS, centered_at, draw_board, photographed

_STEP_PX = (37, 46)  # (rows, columns) from the sign to the near discs; the far ones are at twice that


class PointerSpec(DrawingSpec):
    """What the scenes of Pointer look like; equal specs draw equal scenes.

    Attributes:
        height: image height in pixels.
        width: image width in pixels.
        seed: another seed draws other scenes.
        num_discs: 4 are above, right, below and left of the sign, 8 also between these, 16 also at half the distance.
        sign_px: diameter of the sign, in pixels.
        disc_px: diameter of a disc, in pixels.
    """

    name = "pointer"
    version = 2
    classes = tuple(str(digit) for digit in range(NUM_DIGITS))
    num_boxes = 2

    height: Annotated[int, Field(ge=192)] = 192
    width: Annotated[int, Field(ge=256)] = 256
    seed: Annotated[int, Field(ge=0)] = 0
    num_discs: Literal[4, 8, 16] = 4
    sign_px: Annotated[int, Field(ge=12, le=40)] = 30
    disc_px: Annotated[int, Field(ge=12, le=26)] = 24

    def draw(self, rng: random.Random) -> Scene:
        """Draws a scene; its boxes are those of the sign and of the disc that it points to."""
        room = [2 * step + self.disc_px // 2 + 2 for step in _STEP_PX]
        row = rng.randint(room[0], self.height - room[0])
        column = rng.randint(room[1], self.width - room[1])
        values = range(0, 8, 2) if self.num_discs == 4 else range(self.num_discs)
        chosen = rng.choice(values)
        sign = centered_at(draw_board(rng, "arrow", self.sign_px, chosen), row, column)
        digits, discs = {}, {}
        for value in values:
            steps = 1 + value // 8 if self.num_discs == 16 else 2
            down, right = (steps * way * step for way, step in zip(DIRECTIONS[value % 8], _STEP_PX, strict=True))
            digits[value] = rng.randrange(NUM_DIGITS)
            discs[value] = centered_at(
                draw_board(rng, "digit", self.disc_px, digits[value]), row + down, column + right
            )
        image = photographed(rng, self.height, self.width, [sign, *discs.values()])
        return Scene(image, digits[chosen], np.array([sign.box, discs[chosen].box]))


class Pointer(DrawnScenes):
    """Scenes of Pointer.

    Attributes:
        scenes: what they look like.
    """

    kind: Literal["pointer"] = "pointer"
    scenes: PointerSpec = PointerSpec()
