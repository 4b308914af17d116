"""Search: one of several discs holds a digit, the class; the others hold a letter.

All discs look alike in the glance. A search that repeats no place needs half of them on average.
"""

from __future__ import annotations

import random
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from classifiers.data.drawings import DrawingSpec, DrawnScenes, Scene
from classifiers.data.drawn_tasks.boards import (
    LETTERS,
    NUM_DIGITS,
    centered_at,
    draw_board,
    photographed,
    scattered,
)


class SearchSpec(DrawingSpec):
    """What the scenes of Search look like; equal specs draw equal scenes.

    Attributes:
        height: image height in pixels.
        width: image width in pixels.
        seed: another seed draws other scenes.
        num_discs: discs in a scene, the one with the digit included.
        min_disc_px: smallest diameter of a disc, in pixels.
        max_disc_px: largest diameter of a disc, in pixels.
    """

    name = "search"
    version = 1
    classes = tuple(str(digit) for digit in range(NUM_DIGITS))

    height: Annotated[int, Field(ge=192)] = 192
    width: Annotated[int, Field(ge=256)] = 256
    seed: Annotated[int, Field(ge=0)] = 0
    num_discs: Annotated[int, Field(ge=2, le=8)] = 6
    min_disc_px: Annotated[int, Field(ge=12)] = 22
    max_disc_px: Annotated[int, Field(le=40)] = 28

    def draw(self, rng: random.Random) -> Scene:
        """Draws a scene; its box is that of the disc with the digit."""
        label = rng.randrange(NUM_DIGITS)
        discs = []
        centers = scattered(rng, self.height, self.width, self.num_discs, self.max_disc_px // 2, 44)
        for number, (row, column) in enumerate(centers):
            kind, value = ("letter", rng.randrange(len(LETTERS))) if number else ("digit", label)
            picture = draw_board(rng, kind, rng.uniform(self.min_disc_px, self.max_disc_px), value)
            discs.append(centered_at(picture, row, column))
        image = photographed(rng, self.height, self.width, discs)
        return Scene(image, label, np.array([discs[0].box]))


class Search(DrawnScenes):
    """Scenes of Search.

    Attributes:
        scenes: what they look like.
    """

    kind: Literal["search"] = "search"
    scenes: SearchSpec = SearchSpec()
