"""The signs of the built-in task, drawn once at a large size and scaled into each scene.

A *speed-limit sign* is a red ring around a white disc with a black number. *Distractors* share its colors or parts,
so that a low-resolution glance can confuse them: an empty red ring, a blue disc with a number, a warning
triangle and a priority diamond.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SPEED_LIMITS = (30, 40, 50, 60, 70, 80, 90, 100, 120)
"""Speed limits in km/h; class 0 is "no speed limit", class i is `SPEED_LIMITS[i - 1]`."""

CLASS_NAMES = ("none", *(str(limit) for limit in SPEED_LIMITS))
"""Names of the 10 classes, by label."""

_SIDE = 96  # pixels of a master drawing: two to three times the signs of a scene
_RED, _BLUE, _YELLOW = (198, 22, 30), (22, 74, 166), (240, 190, 20)
_WHITE, _BLACK = (246, 246, 242), (18, 18, 20)


def _canvas() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGBA", (_SIDE, _SIDE), (0, 0, 0, 0))
    return image, ImageDraw.Draw(image)


def _disc(draw: ImageDraw.ImageDraw, inset: float, color: tuple[int, int, int]) -> None:
    draw.ellipse((inset, inset, _SIDE - 1 - inset, _SIDE - 1 - inset), fill=(*color, 255))


def _number(draw: ImageDraw.ImageDraw, number: int, color: tuple[int, int, int]) -> None:
    size = 46 if number < 100 else 35
    draw.text(
        (_SIDE / 2, _SIDE / 2),
        str(number),
        fill=(*color, 255),
        font=ImageFont.load_default(size=size),
        anchor="mm",
        stroke_width=2,
        stroke_fill=(*color, 255),
    )


def _speed_limit(number: int) -> Image.Image:
    image, draw = _canvas()
    _disc(draw, 0, _RED)
    _disc(draw, 12, _WHITE)
    _number(draw, number, _BLACK)
    return image


def _empty_ring(_: int) -> Image.Image:
    image, draw = _canvas()
    _disc(draw, 0, _RED)
    _disc(draw, 12, _WHITE)
    return image


def _blue_number(number: int) -> Image.Image:
    image, draw = _canvas()
    _disc(draw, 0, _WHITE)
    _disc(draw, 4, _BLUE)
    _number(draw, number, _WHITE)
    return image


def _polygon(inset: float, angles: tuple[float, ...], center_row: float = 0.5) -> list[tuple[float, float]]:
    radius = _SIDE / 2 - inset
    return [
        (_SIDE / 2 + radius * math.sin(math.radians(a)), _SIDE * center_row - radius * math.cos(math.radians(a)))
        for a in angles
    ]


def _warning_triangle(_: int) -> Image.Image:
    image, draw = _canvas()
    corners = (0.0, 120.0, 240.0)
    draw.polygon(_polygon(0, corners, 0.55), fill=(*_RED, 255))
    draw.polygon(_polygon(17, corners, 0.55), fill=(*_WHITE, 255))
    draw.rectangle((45, 38, 51, 60), fill=(*_BLACK, 255))
    draw.ellipse((44, 63, 52, 71), fill=(*_BLACK, 255))
    return image


def _priority_diamond(_: int) -> Image.Image:
    image, draw = _canvas()
    corners = (0.0, 90.0, 180.0, 270.0)
    draw.polygon(_polygon(0, corners), fill=(*_WHITE, 255))
    draw.polygon(_polygon(12, corners), fill=(*_YELLOW, 255))
    return image


_DRAWERS: dict[str, Callable[[int], Image.Image]] = {
    "speed_limit": _speed_limit,
    "empty_ring": _empty_ring,
    "blue_number": _blue_number,
    "warning_triangle": _warning_triangle,
    "priority_diamond": _priority_diamond,
}

DISTRACTORS = tuple(kind for kind in _DRAWERS if kind != "speed_limit")
"""Kinds of signs that are no speed limit."""


@functools.cache
def _master(kind: str, number: int, tilt_degrees: int) -> Image.Image:
    return _DRAWERS[kind](number).rotate(tilt_degrees, resample=Image.Resampling.BICUBIC)


def draw_sign(rng: random.Random, kind: str, diameter_px: float, number: int = 0) -> Image.Image:
    """One roadside sign: tilted, turned, faded, perhaps partly in the shade.

    Args:
        rng: source of all randomness.
        kind: `"speed_limit"` or one of `DISTRACTORS`.
        diameter_px: height of the upright sign in pixels.
        number: the number on it, if the kind has one.

    Returns:
        RGBA image of the sign's own extent, transparent around it.
    """
    return weathered(rng, _master(kind, number, 2 * rng.randint(-6, 6)), diameter_px)


def weathered(rng: random.Random, master: Image.Image, diameter_px: float) -> Image.Image:
    """A sign as it stands by the road: turned, faded, perhaps partly in the shade.

    Args:
        rng: source of all randomness.
        master: a large drawing, RGBA, transparent around the sign.
        diameter_px: height of the upright sign in pixels.

    Returns:
        RGBA image of the sign's own extent.
    """
    turn = rng.uniform(0.85, 1.0)  # cosine of the turn about the pole
    size = (max(4, round(diameter_px * turn)), max(4, round(diameter_px)))
    pixels = np.array(master.resize(size, resample=Image.Resampling.BOX), dtype=np.float32)  # (H, W, 4)
    fade = rng.uniform(0.0, 0.25)
    pixels[..., :3] = (1.0 - fade) * pixels[..., :3] + fade * 165.0
    if rng.random() < 0.35:
        pixels[..., :3] *= _shade(rng, *pixels.shape[:2])[..., None]
    return Image.fromarray(pixels.astype(np.uint8))


def _shade(rng: random.Random, height: int, width: int) -> np.ndarray:
    """Brightness factor per pixel, (height, width): pixels beyond a slanted edge are in the shade."""
    angle = rng.uniform(0.0, 2.0 * math.pi)
    rows = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    in_shade = rows * math.sin(angle) + columns * math.cos(angle) > rng.uniform(-0.6, 0.6)
    return np.where(in_shade, np.float32(rng.uniform(0.45, 0.75)), np.float32(1.0))
