"""Pointer: the arrow on a sign says which of four discs holds the class.

Nine boards stand in three rows and three columns. Those above, right, below and left of the middle are discs with the
digits 0 to 3. The sign stands at a corner: the glance shows which, but its arrow is read in a patch alone. It points
up, right, down or left, to the disc on that side of the middle. The other corners and the middle hold letters, which
look like digits in the glance. A disc without the arrow says nothing about the class, nor does the arrow without its
disc, and no patch of 64 pixels holds two boards. In the middle, where an agent that has learned nothing may look, is
never the sign.
"""

from __future__ import annotations

import random
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from classifiers.data.drawings import DrawingSpec, DrawnScenes, Scene
from classifiers.data.drawn_tasks.boards import DIRECTIONS, LETTERS, Placed, centered_at, draw_board, photographed

_NUM_DIGITS = 4
_AWAY_PX = (52, 64)  # (rows, columns) from the middle board to those beside it
_SHIFT_PX = (12, 16)  # at most so far is the middle board from the middle of the scene
_SIDES, _CORNERS = (0, 2, 4, 6), (1, 3, 5, 7)  # of DIRECTIONS


class PointerSpec(DrawingSpec):
    """What the scenes of Pointer look like; equal specs draw equal scenes.

    Attributes:
        height: image height in pixels.
        width: image width in pixels.
        seed: another seed draws other scenes.
        sign_px: diameter of the sign, in pixels.
        disc_px: diameter of a disc, in pixels.
    """

    name = "pointer"
    version = 6
    classes = tuple(str(digit) for digit in range(_NUM_DIGITS))
    num_boxes = 2

    height: Annotated[int, Field(ge=192)] = 192
    width: Annotated[int, Field(ge=256)] = 256
    seed: Annotated[int, Field(ge=0)] = 0
    sign_px: Annotated[int, Field(ge=12, le=40)] = 30
    disc_px: Annotated[int, Field(ge=12, le=26)] = 24

    def draw(self, rng: random.Random) -> Scene:
        """Draws a scene; its boxes are those of the sign and of the disc that it points to."""
        row = self.height // 2 + rng.randint(-_SHIFT_PX[0], _SHIFT_PX[0])
        column = self.width // 2 + rng.randint(-_SHIFT_PX[1], _SHIFT_PX[1])

        def placed(kind: str, value: int, direction: tuple[int, int]) -> Placed:
            down, right = (way * away for way, away in zip(direction, _AWAY_PX, strict=True))
            picture = draw_board(rng, kind, self.sign_px if kind == "arrow" else self.disc_px, value)
            return centered_at(picture, row + down, column + right)

        chosen, corner = rng.choice(_SIDES), rng.choice(_CORNERS)
        sign = placed("arrow", chosen, DIRECTIONS[corner])
        digits = rng.sample(range(_NUM_DIGITS), _NUM_DIGITS)
        held = dict(zip(_SIDES, digits, strict=True))
        discs = {side: placed("digit", digit, DIRECTIONS[side]) for side, digit in held.items()}
        others = [(0, 0), *(DIRECTIONS[way] for way in _CORNERS if way != corner)]
        letters = [placed("letter", rng.randrange(len(LETTERS)), where) for where in others]
        image = photographed(rng, self.height, self.width, [sign, *discs.values(), *letters])
        return Scene(image, held[chosen], np.array([sign.box, discs[chosen].box]))


class Pointer(DrawnScenes):
    """Scenes of Pointer.

    Attributes:
        scenes: what they look like.
    """

    kind: Literal["pointer"] = "pointer"
    scenes: PointerSpec = PointerSpec()
