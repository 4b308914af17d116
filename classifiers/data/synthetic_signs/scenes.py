"""SyntheticSigns: road scenes in which one small speed-limit sign decides the class.

The paper's traffic-sign experiment (Table 4: 960x1280 scenes, 192x192 patches, a scene 33 times the patch) made
small enough to learn on two processor cores. The sign can be found in a low-resolution glance but read only in a
full-resolution patch. Ground-truth boxes come with the scenes, so that looking in the right place can be measured too.
"""

from __future__ import annotations

import random
from typing import Annotated, Literal

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from classifiers.data.drawings import DrawnScenes, Scene, SignSceneSpec
from classifiers.data.synthetic_signs.scenery import draw_pole, draw_scenery, photograph
from classifiers.data.synthetic_signs.signs import CLASS_NAMES, DISTRACTORS, SPEED_LIMITS, draw_sign


class SceneSpec(SignSceneSpec):
    """What the scenes look like; equal specs draw equal scenes.

    Attributes:
        max_distractors: most signs per scene that are no speed limit.
    """

    name = "synthetic_signs"
    version = 1
    classes = CLASS_NAMES

    min_sign_px: Annotated[int, Field(ge=4)] = 28
    max_sign_px: int = 40
    max_distractors: Annotated[int, Field(ge=0)] = 2

    def draw(self, rng: random.Random) -> Scene:
        """Draws a scene; its box is the speed-limit sign's, all zero where there is none."""
        return _draw_scene(self, rng)


class SyntheticSigns(DrawnScenes):
    """The built-in task's generated road scenes.

    Attributes:
        scenes: what they look like.
    """

    kind: Literal["synthetic_signs"] = "synthetic_signs"
    scenes: SceneSpec = SceneSpec()


def _draw_scene(spec: SceneSpec, rng: random.Random) -> Scene:
    label = rng.randrange(len(CLASS_NAMES))
    scene = draw_scenery(rng, spec.height, spec.width)
    draw = ImageDraw.Draw(scene)
    taken: list[tuple[int, int, int, int]] = []
    standing: list[Image.Image] = []
    box = np.zeros((1, 4), dtype=np.int64)
    signs = [("speed_limit", SPEED_LIMITS[label - 1])] if label else []
    for _ in range(rng.randint(0, spec.max_distractors)):
        signs.append((rng.choice(DISTRACTORS), rng.choice(SPEED_LIMITS)))
    for kind, number in signs:
        sign = draw_sign(rng, kind, rng.uniform(spec.min_sign_px, spec.max_sign_px), number)
        place = _free_place(rng, spec, sign.height, sign.width, taken)
        if place is None:
            continue
        taken.append(place)
        standing.append(sign)
        if kind == "speed_limit":
            box[:] = place
    for top, left, bottom, right in taken:  # all poles behind all signs: none crosses a number
        draw_pole(draw, (left + right) // 2, bottom - 2, min(spec.height, 3 * bottom - 2 * top), 1)
    for sign, (top, left, _, _) in zip(standing, taken, strict=True):
        scene.paste(sign, (left, top), sign)
    return Scene(photograph(rng, scene), label, box)


def _free_place(
    rng: random.Random, spec: SceneSpec, height: int, width: int, taken: list[tuple[int, int, int, int]]
) -> tuple[int, int, int, int] | None:
    """A (top, left, bottom, right) clear of the others; the first sign always gets one, a distractor perhaps not."""
    for _ in range(8):
        top = rng.randrange(spec.height // 16, int(0.8 * spec.height) - height)
        left = rng.randrange(2, spec.width - width - 2)
        place = (top, left, top + height, left + width)
        if all(_apart(place, other) for other in taken):
            return place
    return None


def _apart(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
