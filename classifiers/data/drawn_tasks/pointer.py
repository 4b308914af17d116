"""Pointer: a sign with an arrow says which of the discs around it holds the class.

The sign stands near the middle of the scene and is seen in the glance; its arrow is read in a patch alone. Every disc
holds one of four digits, and as many discs hold each: so a disc without the arrow says nothing about the class, nor
does the arrow without its disc. Discs are so far from the sign that no patch of 64 pixels shows both.
"""

from __future__ import annotations

import random
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from classifiers.data.drawings import DrawingSpec, DrawnScenes, Scene
from classifiers.data.drawn_tasks.boards import DIRECTIONS, LETTERS, centered_at, draw_board, photographed

_NUM_DIGITS = 4
_AWAY_PX = (74, 92)  # (rows, columns) from the sign to the discs


class PointerSpec(DrawingSpec):
    """What the scenes of Pointer look like; equal specs draw equal scenes.

    Attributes:
        height: image height in pixels.
        width: image width in pixels.
        seed: another seed draws other scenes.
        num_discs: discs with digits: 4 are above, right, below and left of the sign, and discs with letters, which look
            alike in the glance, between these; 8 are in all directions.
        sign_px: diameter of the sign, in pixels.
        disc_px: diameter of a disc, in pixels.
    """

    name = "pointer"
    version = 4
    classes = tuple(str(digit) for digit in range(_NUM_DIGITS))
    num_boxes = 2

    height: Annotated[int, Field(ge=192)] = 192
    width: Annotated[int, Field(ge=256)] = 256
    seed: Annotated[int, Field(ge=0)] = 0
    num_discs: Literal[4, 8] = 4
    sign_px: Annotated[int, Field(ge=12, le=40)] = 30
    disc_px: Annotated[int, Field(ge=12, le=26)] = 24

    def draw(self, rng: random.Random) -> Scene:
        """Draws a scene; its boxes are those of the sign and of the disc that it points to."""
        room = [away + self.disc_px // 2 + 2 for away in _AWAY_PX]
        row = rng.randint(room[0], self.height - room[0])
        column = rng.randint(room[1], self.width - room[1])
        values = range(0, 8, 8 // self.num_discs)
        chosen = rng.choice(values)
        sign = centered_at(draw_board(rng, "arrow", self.sign_px, chosen), row, column)
        digits = [number % _NUM_DIGITS for number in range(self.num_discs)]
        rng.shuffle(digits)
        held = dict(zip(values, digits, strict=True))
        discs = {}
        for value in [*values, *(way for way in range(8) if way not in values)]:
            down, right = (way * away for way, away in zip(DIRECTIONS[value], _AWAY_PX, strict=True))
            text = ("digit", held[value]) if value in held else ("letter", rng.randrange(len(LETTERS)))
            discs[value] = centered_at(draw_board(rng, text[0], self.disc_px, text[1]), row + down, column + right)
        image = photographed(rng, self.height, self.width, [sign, *discs.values()])
        return Scene(image, held[chosen], np.array([sign.box, discs[chosen].box]))


class Pointer(DrawnScenes):
    """Scenes of Pointer.

    Attributes:
        scenes: what they look like.
    """

    kind: Literal["pointer"] = "pointer"
    scenes: PointerSpec = PointerSpec()
