"""The road scenes of the built-in task, without their signs: sky, hills, buildings, trees, road, light and noise."""

from __future__ import annotations

import functools
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_SKIES = (((96, 150, 214), (206, 222, 238)), ((150, 160, 172), (214, 216, 218)), ((74, 92, 140), (240, 190, 140)))
_GROUNDS = ((86, 118, 58), (122, 116, 74), (74, 100, 62), (148, 140, 118))
_WALLS = ((166, 108, 86), (196, 184, 160), (142, 144, 150), (206, 196, 182), (120, 92, 80), (176, 60, 52))
_PAINTS = ((30, 34, 40), (200, 204, 210), (150, 24, 28), (28, 60, 120), (230, 230, 228))


def draw_scenery(rng: random.Random, height: int, width: int) -> Image.Image:
    """A road scene of `height` x `width` pixels, RGB, with nothing to recognize in it."""
    horizon = int(height * rng.uniform(0.38, 0.56))
    scene = _sky_and_ground(rng, height, width, horizon)
    draw = ImageDraw.Draw(scene)
    _hills(rng, draw, width, horizon, height)
    for _ in range(rng.randrange(5)):
        _building(rng, draw, width, horizon, height)
    for _ in range(rng.randrange(6)):
        _tree(rng, draw, width, horizon, height)
    _road(rng, draw, height, width, horizon)
    for _ in range(rng.randrange(3)):
        _car(rng, draw, height, width, horizon)
    for _ in range(rng.randrange(3)):
        column = rng.randrange(width)
        draw_pole(draw, column, int(horizon * rng.uniform(0.2, 1.0)), int(horizon + 0.25 * height), 1)
    return scene


def draw_pole(draw: ImageDraw.ImageDraw, column: int, top: int, bottom: int, half_width: int) -> None:
    """A gray pole, in pixels of the scene."""
    draw.rectangle((column - half_width, top, column + half_width, bottom), fill=(112, 114, 118))


def photograph(rng: random.Random, scene: Image.Image) -> np.ndarray:
    """The scene as a camera sees it, (H, W, 3) uint8: cast shadows, light, blur and sensor noise."""
    _cast_shadows(rng, scene)
    if rng.random() < 0.4:
        scene = scene.filter(ImageFilter.BoxBlur(rng.uniform(0.1, 0.55)))
    scene = scene.point(_light_table(rng))
    return _add_noise(rng, np.asarray(scene))


def _jitter(rng: random.Random, color: tuple[int, int, int], amount: int = 18) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, channel + round(rng.uniform(-amount, amount)))) for channel in color)
    return red, green, blue


def _sky_and_ground(rng: random.Random, height: int, width: int, horizon: int) -> Image.Image:
    top, bottom = rng.choice(_SKIES)
    soil = np.array(_jitter(rng, rng.choice(_GROUNDS)), dtype=np.float32)
    sky_ramp = np.arange(horizon, dtype=np.float32)[:, None] / horizon
    sky = (1 - sky_ramp) * np.array(top, np.float32) + sky_ramp * np.array(bottom, np.float32)
    depth = np.arange(height - horizon, dtype=np.float32)[:, None] / (height - horizon)
    ground = (1.15 - 0.4 * depth) * soil
    column = np.concatenate([sky, ground.clip(0, 255)])[:, None]  # (H, 1, 3)
    return Image.fromarray(column.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)


def _hills(rng: random.Random, draw: ImageDraw.ImageDraw, width: int, horizon: int, height: int) -> None:
    ridge = [(i * width / 6, horizon - rng.uniform(0.0, 0.12) * height) for i in range(7)]
    draw.polygon([*ridge, (width, horizon), (0, horizon)], fill=_jitter(rng, (92, 112, 98), 24))


def _building(rng: random.Random, draw: ImageDraw.ImageDraw, width: int, horizon: int, height: int) -> None:
    left = rng.uniform(-0.1, 0.95) * width
    wide, tall = rng.uniform(0.1, 0.28) * width, rng.uniform(0.1, 0.34) * height
    bottom = horizon + rng.uniform(0.0, 0.06) * height
    top = bottom - tall
    wall = _jitter(rng, rng.choice(_WALLS))
    draw.rectangle((left, top, left + wide, bottom), fill=wall)
    window = tuple(int(0.55 * c) for c in wall) if rng.random() < 0.7 else (226, 214, 150)
    step = rng.uniform(0.06, 0.09) * height
    for row in np.arange(top + 0.5 * step, bottom - step, step).tolist():
        for column in np.arange(left + 0.4 * step, left + wide - 0.8 * step, step).tolist():
            draw.rectangle((column, row, column + 0.45 * step, row + 0.55 * step), fill=window)


def _tree(rng: random.Random, draw: ImageDraw.ImageDraw, width: int, horizon: int, height: int) -> None:
    column, base = rng.uniform(0.0, 1.0) * width, horizon + rng.uniform(0.0, 0.14) * height
    radius = rng.uniform(0.04, 0.1) * height
    draw.rectangle((column - 2, base - 2 * radius, column + 2, base), fill=(82, 62, 44))
    leaf = _jitter(rng, (60, 96, 46), 26)
    for _ in range(4):
        x, y = column + rng.uniform(-0.7, 0.7) * radius, base - 2 * radius + rng.uniform(-0.8, 0.5) * radius
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_jitter(rng, leaf, 10))


def _road(rng: random.Random, draw: ImageDraw.ImageDraw, height: int, width: int, horizon: int) -> None:
    vanish = rng.uniform(0.3, 0.7) * width
    left, right = rng.uniform(-0.25, 0.2) * width, rng.uniform(0.8, 1.25) * width
    tarmac = _jitter(rng, (88, 88, 92), 14)
    draw.polygon([(vanish - 2, horizon), (vanish + 2, horizon), (right, height), (left, height)], fill=tarmac)
    middle = 0.5 * (left + right)
    for start in np.linspace(rng.uniform(0.0, 0.1), 1.0, 7):
        _dash(draw, (vanish, horizon), (middle, height), float(start), float(start) + 0.07)
    for edge in (0.94 * left + 0.06 * right, 0.06 * left + 0.94 * right):
        draw.line((vanish, horizon, edge, height), fill=(206, 206, 200), width=2)


def _dash(
    draw: ImageDraw.ImageDraw, far: tuple[float, float], near: tuple[float, float], start: float, end: float
) -> None:
    def at(share: float) -> tuple[float, float]:
        depth = share**1.8  # perspective: far dashes are short
        return far[0] + depth * (near[0] - far[0]), far[1] + depth * (near[1] - far[1])

    draw.line((*at(start), *at(end)), fill=(222, 222, 214), width=max(1, round(4 * start)))


def _car(rng: random.Random, draw: ImageDraw.ImageDraw, height: int, width: int, horizon: int) -> None:
    depth = rng.uniform(0.15, 0.7)
    bottom = horizon + depth * (height - horizon)
    wide, tall = 0.26 * depth * width, 0.2 * depth * height
    left = rng.uniform(0.2, 0.8) * width - wide / 2
    draw.rectangle((left, bottom - tall, left + wide, bottom - 0.15 * tall), fill=rng.choice(_PAINTS))
    draw.rectangle(
        (left + 0.15 * wide, bottom - 0.9 * tall, left + 0.85 * wide, bottom - 0.55 * tall), fill=(52, 60, 70)
    )
    for lamp in (left + 0.04 * wide, left + 0.84 * wide):
        draw.rectangle((lamp, bottom - 0.45 * tall, lamp + 0.12 * wide, bottom - 0.3 * tall), fill=(190, 30, 30))
    for wheel in (left + 0.08 * wide, left + 0.76 * wide):
        draw.rectangle((wheel, bottom - 0.16 * tall, wheel + 0.16 * wide, bottom), fill=(20, 20, 22))


def _cast_shadows(rng: random.Random, scene: Image.Image) -> None:
    """Darkens the scene under up to two slanted bands, in place."""
    draw = ImageDraw.Draw(scene, "RGBA")
    for _ in range(rng.randrange(3)):
        left, wide = rng.uniform(-0.2, 1.0) * scene.width, rng.uniform(0.1, 0.35) * scene.width
        slant = rng.uniform(-0.4, 0.4) * scene.width
        corners = [(left, 0), (left + wide, 0), (left + wide + slant, scene.height), (left + slant, scene.height)]
        draw.polygon(corners, fill=(16, 18, 26, rng.randint(50, 120)))


def _light_table(rng: random.Random) -> list[int]:
    """Look-up table of 3 x 256 entries: exposure, contrast and color temperature."""
    exposure, contrast = rng.uniform(0.6, 1.15), rng.uniform(0.8, 1.1)
    tint = 1.0 + rng.uniform(-0.08, 0.08) * np.array([1.0, 0.0, -1.0])
    levels = (np.arange(256) - 128.0) * contrast + 128.0
    table: list[int] = (levels[None] * exposure * tint[:, None]).clip(0, 255).astype(int).ravel().tolist()
    return table


@functools.cache
def _noise_fields(height: int, width: int, std: int) -> tuple[np.ndarray, np.ndarray]:
    """The brighter and the darker half of Gaussian noise to cut windows from: drawing it anew would double the time."""
    noise = np.random.default_rng(std).normal(0.0, std, (height, width, 3)).round()
    return noise.clip(0, 255).astype(np.uint8), (-noise).clip(0, 255).astype(np.uint8)


def _add_noise(rng: random.Random, image: np.ndarray) -> np.ndarray:
    """Adds and subtracts without wrapping round, in bytes."""
    height, width = image.shape[:2]
    top, left = rng.randrange(height), rng.randrange(width)
    fields = _noise_fields(2 * height, 2 * width, std=rng.randint(1, 8))
    brighter, darker = (field[top : top + height, left : left + width] for field in fields)
    noisy = np.minimum(image, 255 - brighter) + brighter
    return np.asarray(np.maximum(noisy, darker) - darker)
