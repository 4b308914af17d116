"""SyntheticGestures: clips in which a small thing decides the class by how it moves.

Several discs float over a blurred background. One of them is red, and its fine pattern of crossed stripes moves
sideways in one of eight ways: the class. The others have other colors, and patterns that move in ways of their own.

- Only the order of the frames tells the class. In each way, the stripes take the same eight places, each of them once,
  and the first is random.
- A glance of 24x24 pixels does not tell it: stripes have a period of 4 pixels, so they average out when 4x4 pixels
  become one. It shows where the red disc is. Discs float in directions that have nothing to do with their patterns.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from classifiers.data.collection import Count, ImageCollection, OnProgress, check_clips_are_wanted
from classifiers.data.loading import map_threads
from classifiers.data.source import Batch, ImageSource, batch_without_boxes
from classifiers.settings import Settings

SPLITS = ("train", "val", "test")
"""Names of the splits; their clips are drawn from disjoint random streams."""

NUM_FRAMES = 8
"""Frames F of a clip."""

_WAYS = {
    "slow right": (0, 1, 2, 3, 4, 5, 6, 7),
    "slow left": (0, 7, 6, 5, 4, 3, 2, 1),
    "right": (0, 2, 4, 6, 1, 3, 5, 7),
    "left": (0, 6, 4, 2, 7, 5, 3, 1),
    "fast right": (0, 3, 6, 1, 4, 7, 2, 5),
    "fast left": (0, 5, 2, 7, 4, 1, 6, 3),
    "jump right": (0, 4, 1, 5, 2, 6, 3, 7),
    "jump left": (0, 4, 7, 3, 6, 2, 5, 1),
}  # places of the stripes in the 8 frames, in eighths of their period

CLASS_NAMES = tuple(_WAYS)
"""Names of the 8 classes, by label: how the stripes of the red disc move."""

_PERIOD = 4  # pixels
_RED = (180.0, 66.0, 66.0)
_OTHERS = ((66.0, 92.0, 180.0), (70.0, 150.0, 76.0), (180.0, 156.0, 66.0), (140.0, 80.0, 170.0), (76.0, 160.0, 170.0))
_MOST_CONTRAST = 28.0  # gray levels; no color leaves 0 to 255, so that averages stay constant
_GAP = 4  # pixels that discs keep from each other and from the border


class Gesture(NamedTuple):
    """One drawn clip.

    Attributes:
        frames: (F, H, W, 3) uint8, RGB.
        label: index into `CLASS_NAMES`.
        boxes: (F, 4) int64, the red disc's (top, left, bottom, right) in each frame, in pixels, bottom and right
            exclusive.
    """

    frames: np.ndarray
    label: int
    boxes: np.ndarray


class GestureSpec(Settings):
    """What the clips look like; equal specs draw equal clips.

    Attributes:
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        min_diameter_px: of a disc, in pixels.
        max_diameter_px: of a disc, in pixels.
        max_distractors: most discs that are not red; how many there are is drawn evenly, none included.
        min_contrast: of each wave of a disc's stripes, in gray levels; a disc's contrast is drawn evenly from here on.
        max_contrast: up to here. Faint stripes are hard to tell from the noise, for any network.
        noise: standard deviation of each pixel's noise, in gray levels.
        seed: another seed draws other clips.
    """

    height: int = 96
    width: int = 96
    min_diameter_px: Annotated[int, Field(ge=8)] = 16
    max_diameter_px: int = 20
    max_distractors: Annotated[int, Field(ge=0, le=len(_OTHERS))] = 3
    min_contrast: Annotated[float, Field(ge=0)] = 14.0
    max_contrast: Annotated[float, Field(le=_MOST_CONTRAST)] = 28.0
    noise: Annotated[float, Field(ge=0)] = 12.0
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        if self.min_diameter_px > self.max_diameter_px:
            raise ValueError(f"min_diameter_px={self.min_diameter_px} exceeds max_diameter_px={self.max_diameter_px}")
        if self.min_contrast > self.max_contrast:
            raise ValueError(f"min_contrast={self.min_contrast} exceeds max_contrast={self.max_contrast}")
        if min(self.height, self.width) < 3 * self._room:
            raise ValueError(
                f"height={self.height}, width={self.width} are too small for max_diameter_px={self.max_diameter_px}; "
                f"pass at least {3 * self._room}"
            )
        return self

    @property
    def _room(self) -> int:
        """Side of the square in which the largest disc stays for the whole clip, with the gap around it."""
        return self.max_diameter_px + NUM_FRAMES // 2 + 2 * _GAP


def draw_gesture(spec: GestureSpec, split: str, index: int, label: int | None = None) -> Gesture:
    """Draws one clip; the same arguments always draw the same clip.

    Args:
        spec: what the clips look like.
        split: one of `SPLITS`.
        index: which clip of the split, from 0.
        label: the class; None draws it. Clips that differ in this alone have equal first frames.

    Returns:
        The clip, its label and its boxes.

    Raises:
        ValueError: if `split` is not one of `SPLITS`.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}; pass one of these")
    rng = np.random.default_rng([spec.seed, SPLITS.index(split), index])
    drawn = int(rng.integers(len(CLASS_NAMES)))
    label = drawn if label is None else label
    frames = np.repeat(_background(rng, spec.height, spec.width)[None], NUM_FRAMES, axis=0)  # (F, H, W, 3)
    count = int(rng.integers(spec.max_distractors + 1))
    colors = [_RED, *(_OTHERS[i] for i in rng.permutation(len(_OTHERS))[:count])]
    boxes = np.zeros((NUM_FRAMES, 4), dtype=np.int64)
    for number, (corner, color) in enumerate(zip(_corners(rng, spec, len(colors)), colors, strict=True)):
        way = int(rng.integers(len(_WAYS)))
        found = _draw_disc(rng, frames, spec, corner, np.array(color), CLASS_NAMES[way if number else label])
        if number == 0:
            boxes = found
    frames += np.float32(spec.noise) * rng.standard_normal(frames.shape, dtype=np.float32)
    return Gesture(frames.round().clip(0, 255).astype(np.uint8), label, boxes)


class GestureClips(ImageSource):
    """The first clips of a split; a clip is drawn when it is fetched, which takes as long as decoding.

    Args:
        spec: what they look like.
        split: one of `classifiers.data.synthetic_gestures.SPLITS`.
        count: how many, N.

    Raises:
        ValueError: if there is none.
    """

    class_names = CLASS_NAMES
    num_frames = NUM_FRAMES
    decodes_files = True

    def __init__(self, spec: GestureSpec, split: str, count: int) -> None:
        if count < 1:
            raise ValueError(f"count={count}; pass 1 clip or more")
        self.spec, self.split, self.count = spec, split, count
        self.image_size = (spec.height, spec.width)

    def __len__(self) -> int:
        return self.count

    def fetch(self, indices: Tensor) -> Batch:
        drawn: list[Gesture] = list(map_threads(self.draw, indices.tolist()))
        boxes = np.stack([np.append(one.boxes[:, :2].min(axis=0), one.boxes[:, 2:].max(axis=0)) for one in drawn])
        batch = batch_without_boxes(np.stack([one.frames for one in drawn]), torch.tensor([one.label for one in drawn]))
        return batch._replace(boxes=torch.from_numpy(boxes)[:, None])

    def draw(self, index: int) -> Gesture:
        """One clip, with the red disc's box in every frame."""
        return draw_gesture(self.spec, self.split, index)


class SyntheticGestures(ImageCollection):
    """The built-in task's drawn clips.

    Attributes:
        num_train: clips of `"train"`.
        num_val: clips of `"val"`.
        num_test: clips of `"test"`.
        gestures: what they look like.
    """

    kind: Literal["synthetic_gestures"] = "synthetic_gestures"
    num_train: Count
    num_val: Count
    num_test: Count
    gestures: GestureSpec = GestureSpec()

    @property
    def image_size(self) -> tuple[int, int]:
        return self.gestures.height, self.gestures.width

    def class_names(self) -> tuple[str, ...]:
        """How the stripes of the red disc move."""
        return CLASS_NAMES

    def open(self, split: str, on_progress: OnProgress | None = None) -> GestureClips:
        """The clips of a split; each is drawn when it is looked at."""
        return GestureClips(self.gestures, split, self.counts[split] or 1)

    def with_frames(self, num_frames: int | None) -> Self:
        """The same; drawn clips have `NUM_FRAMES`."""
        if check_clips_are_wanted(num_frames) != NUM_FRAMES:
            raise ValueError(
                f"the data are clips of {NUM_FRAMES} frames, the encoder takes {num_frames}; pass an encoder such as "
                f"tsm{NUM_FRAMES}:small_resnet"
            )
        return self


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3): colors of a coarse random grid, blended smoothly."""
    grid = rng.uniform(110.0, 140.0, (5, 6, 1)) + rng.uniform(-5.0, 5.0, (5, 6, 3))
    rows, columns = _blend(5, height), _blend(6, width)  # (H, 5), (W, 6)
    blended = np.tensordot(np.tensordot(rows, grid, 1), columns, axes=(1, 1))  # (H, 3, W)
    return np.moveaxis(blended, 1, 2).astype(np.float32)


def _blend(points: int, length: int) -> np.ndarray:
    """(length, points): weights of linear interpolation between evenly spaced points."""
    places = np.linspace(0.0, points - 1.0, length)[:, None]
    weights: np.ndarray = np.maximum(0.0, 1.0 - np.abs(places - np.arange(points)))
    return weights


def _corners(rng: np.random.Generator, spec: GestureSpec, count: int) -> list[tuple[int, int]]:
    """Top-left corners of squares of side `spec._room` that don't overlap; the first always finds a place."""
    side = spec._room
    corners: list[tuple[int, int]] = []
    while len(corners) < count:
        corners.clear()
        for _ in range(60):
            row, column = int(rng.integers(spec.height - side + 1)), int(rng.integers(spec.width - side + 1))
            if all(abs(row - r) >= side or abs(column - c) >= side for r, c in corners):
                corners.append((row, column))
            if len(corners) == count:
                break
    return corners


def _draw_disc(
    rng: np.random.Generator,
    frames: np.ndarray,
    spec: GestureSpec,
    corner: tuple[int, int],
    color: np.ndarray,
    way: str,
) -> np.ndarray:
    """Draws a floating disc into all frames (F, H, W, 3), in place; returns its boxes (F, 4)."""
    diameter = int(rng.integers(spec.min_diameter_px, spec.max_diameter_px + 1))
    floating = rng.uniform(-0.5, 0.5, 2)  # pixels a frame
    phase = rng.uniform(0.0, _PERIOD, 2)
    shade = color * rng.uniform(0.95, 1.05)
    contrast = rng.uniform(spec.min_contrast, spec.max_contrast)
    boxes = np.zeros((NUM_FRAMES, 4), dtype=np.int64)
    room = spec._room - diameter
    for number, frame in enumerate(frames):
        drift = (number - (NUM_FRAMES - 1) / 2) * floating
        top, left = (round(start + room / 2 + d) for start, d in zip(corner, drift, strict=True))
        rows, columns = np.arange(top, top + diameter), np.arange(left, left + diameter)
        down, across = _wave(rows - phase[0]), _wave(columns - phase[1] - _PERIOD * _WAYS[way][number] / 8)
        pattern = shade + contrast * (down[:, None] + across[None])[..., None]
        center = (diameter - 1) / 2
        distance = np.hypot(rows[:, None] - top - center, columns[None] - left - center)
        cover = np.clip(diameter / 2 - distance, 0.0, 1.0)[..., None]
        window = frame[top : top + diameter, left : left + diameter]
        window += cover * (pattern - window)
        boxes[number] = top, left, top + diameter, left + diameter
    return boxes


def _wave(places: np.ndarray) -> np.ndarray:
    """Stripes at some places in pixels, -1 to 1."""
    wave: np.ndarray = np.cos(2.0 * np.pi * places / _PERIOD)
    return wave
