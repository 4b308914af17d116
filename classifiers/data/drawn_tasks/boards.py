"""Boards for the drawn tasks: discs with a digit or a letter, signs with an arrow; and scenes with boards in them."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from classifiers.data.synthetic_signs.scenery import draw_scenery, photograph
from classifiers.data.synthetic_signs.signs import draw_sign, weathered

NUM_DIGITS = 10
"""Values of boards with a digit, 0 to 9."""

LETTERS = "ACEFHKLPUX"
"""What is on boards with a letter, by value; none looks like a digit."""

DIRECTIONS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""(rows, columns) of the directions of arrows, by value: up, then clockwise."""

_SIDE = 96  # pixels of a master drawing
_RIM, _BORDER = 10, 13  # width of a disc's rim, and of the window that grows a shape by its border, in pixels
_YELLOW, _BLUE, _GRAY = (242, 196, 24), (22, 74, 166), 124


class Placed(NamedTuple):
    """A board and where it stands.

    Attributes:
        picture: RGBA, of the board's own extent.
        top: its first row in pixels.
        left: its first column in pixels.
    """

    picture: Image.Image
    top: int
    left: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) in pixels, bottom and right exclusive."""
        return self.top, self.left, self.top + self.picture.height, self.left + self.picture.width


def _balanced(rim: tuple[int, int, int], shape: Image.Image) -> Image.Image:
    """A gray disc with a black shape in a light border that makes up for its ink, so that a glance averages it away.

    Args:
        rim: color of the disc's rim.
        shape: (side, side) gray, 255 where the shape is.
    """
    image = Image.new("RGBA", (_SIDE, _SIDE), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.ellipse((0, 0, _SIDE - 1, _SIDE - 1), fill=(*rim, 255))
    draw.ellipse((_RIM, _RIM, _SIDE - 1 - _RIM, _SIDE - 1 - _RIM), fill=(_GRAY, _GRAY, _GRAY, 255))
    ink = np.asarray(shape) > 127
    border = (np.asarray(shape.filter(ImageFilter.MaxFilter(_BORDER))) > 127) & ~ink
    light = min(255, round(_GRAY * (1 + ink.sum() / border.sum())))
    pixels = np.array(image)
    pixels[border, :3], pixels[ink, :3] = light, 0
    return Image.fromarray(pixels)


def _glyph(glyph: str) -> Image.Image:
    shape = Image.new("L", (_SIDE, _SIDE))
    font, middle = ImageFont.load_default(size=58), (_SIDE / 2, _SIDE / 2)
    ImageDraw.Draw(shape).text(middle, glyph, fill=255, font=font, anchor="mm", stroke_width=2)
    return _balanced(_YELLOW, shape)


def _digit(value: int) -> Image.Image:
    return _glyph(str(value))


def _letter(value: int) -> Image.Image:
    return _glyph(LETTERS[value])


def _arrow(value: int) -> Image.Image:
    """An arrow in one of `DIRECTIONS`; from 8 on with a second head, which means far."""
    shape = Image.new("L", (_SIDE, _SIDE))
    draw = ImageDraw.Draw(shape)
    angle = math.radians(45 * (value % 8))
    along, across = (math.sin(angle), -math.cos(angle)), (math.cos(angle), math.sin(angle))  # (x, y)

    def at(forward: float, aside: float) -> tuple[float, float]:
        x, y = (_SIDE / 2 + forward * a + aside * b for a, b in zip(along, across, strict=True))
        return x, y

    draw.line((*at(-27, 0), *at(16, 0)), fill=255, width=8)
    for tip in (27, 9)[: 1 + value // 8]:
        draw.polygon([at(tip, 0), at(tip - 18, 14), at(tip - 18, -14)], fill=255)
    return _balanced(_BLUE, shape)


_DRAWERS: dict[str, Callable[[int], Image.Image]] = {"digit": _digit, "letter": _letter, "arrow": _arrow}


@functools.cache
def _master(kind: str, value: int, tilt_degrees: int) -> Image.Image:
    return _DRAWERS[kind](value).rotate(tilt_degrees, resample=Image.Resampling.BICUBIC)


def draw_board(rng: random.Random, kind: str, diameter_px: float, value: int) -> Image.Image:
    """One board: tilted, turned, faded, perhaps partly in the shade.

    Args:
        rng: source of all randomness.
        kind: `"digit"`, `"letter"`, `"arrow"`, or a kind of `synthetic_signs.signs.draw_sign`.
        diameter_px: its height in pixels.
        value: what is on it: a digit, the index of a letter, an arrow's direction and distance, or a number.

    Returns:
        RGBA image of the board's own extent, transparent around it.
    """
    if kind not in _DRAWERS:
        return draw_sign(rng, kind, diameter_px, value)
    return weathered(rng, _master(kind, value, 2 * rng.randint(-4, 4)), diameter_px)


def centered_at(picture: Image.Image, row: float, column: float) -> Placed:
    """A board whose center is at (row, column) in pixels."""
    return Placed(picture, round(row - picture.height / 2), round(column - picture.width / 2))


def photographed(rng: random.Random, height: int, width: int, boards: Sequence[Placed]) -> np.ndarray:
    """A road scene with boards in it, (H, W, 3) uint8."""
    scene = draw_scenery(rng, height, width)
    for board in boards:
        scene.paste(board.picture, (board.left, board.top), board.picture)
    return photograph(rng, scene)


def scattered(
    rng: random.Random, height: int, width: int, count: int, margin_px: int, apart_px: int
) -> list[tuple[int, int]]:
    """Random centers (row, col), of which no two are nearer than `apart_px` along both axes.

    Args:
        rng: source of all randomness.
        height: of the image, in pixels.
        width: of the image, in pixels.
        count: how many.
        margin_px: least distance to the image's border.
        apart_px: least distance between two of them, along at least one axis.

    Returns:
        The centers, in random order.
    """
    while True:
        found: list[tuple[int, int]] = []
        for _ in range(40 * count):
            place = rng.randint(margin_px, height - margin_px), rng.randint(margin_px, width - margin_px)
            if all(max(abs(place[0] - row), abs(place[1] - column)) >= apart_px for row, column in found):
                found.append(place)
            if len(found) == count:
                return found
