"""Pictures of an episode, like the paper's Fig. 9: the image with its patches, and the classifier's inputs beside it.

A clip is shown as up to four frames, as in Fig. 14, with the patch in each of them. A box is green where the prediction
was right and orange where it was wrong. It carries the number of the step and the probability of the true label. A thin
yellow outline is the box of an object that decides the label, where it is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gfnet_env.dynamics import GlanceFocusDynamics

RIGHT, WRONG = (0, 158, 115), (213, 94, 0)
"""RGB of boxes with a right and with a wrong prediction; color-blind people can tell them apart."""

TRUE_BOX = (255, 214, 10)
"""RGB of the outline of an object that decides the label."""

_PAPER, _INK = (250, 250, 248), (30, 30, 34)
_MARGIN, _CAPTION, _MIN_SIDE = 8, 18, 384
_MOST_FRAMES = 4


def check_render_mode(render_mode: str | None) -> None:
    """Raises a `ValueError` unless the mode is None or `"rgb_array"`."""
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode={render_mode!r} is unknown; pass 'rgb_array' or None")


def render_rows(dynamics: GlanceFocusDynamics, rows: Iterable[int]) -> list[np.ndarray]:
    """Draws the current episodes of some rows.

    Args:
        dynamics: the episodes.
        rows: which rows.

    Returns:
        For each row (H', W', 3) uint8; the size depends only on the image's size and T.

    Raises:
        RuntimeError: before the first reset.
    """
    if not dynamics.trace.steps.all():
        raise RuntimeError("render() was called before reset(); call reset() first")
    images = dynamics.images
    return [_render(dynamics, row, images[row]) for row in rows]


def _render(dynamics: GlanceFocusDynamics, row: int, pixels: Tensor) -> np.ndarray:
    images = shown_frames(pixels)
    scale = max(1, -(-_MIN_SIDE // min(images[0].size)))
    whole = side_by_side(images, (images[0].width * scale, images[0].height * scale))
    strip_side = max(48, (whole.height - dynamics.num_glimpses * (_CAPTION + _MARGIN)) // dynamics.num_glimpses)
    frame_height = max(whole.height, dynamics.num_glimpses * (strip_side + _CAPTION + _MARGIN))
    strip_width = strip_side * max(len(images), len(dynamics.classifier.spec.scales))
    width = whole.width + strip_width + 3 * _MARGIN + (strip_width + whole.width) % 2  # even sides suit video codecs
    frame = Image.new("RGB", (width, frame_height + 2 * _MARGIN + _CAPTION + frame_height % 2), _PAPER)
    for left in range(0, whole.width, whole.width // len(images)):
        _draw_boxes(ImageDraw.Draw(whole), dynamics, row, scale, left)
    frame.paste(whole, (_MARGIN, _MARGIN + _CAPTION))
    _draw_strip(frame, dynamics, row, pixels, (2 * _MARGIN + whole.width, _MARGIN), strip_side)
    ImageDraw.Draw(frame).text((_MARGIN, _MARGIN - 2), _caption(dynamics, row), fill=_INK, font=font(14))
    return np.asarray(frame)


def _caption(dynamics: GlanceFocusDynamics, row: int) -> str:
    trace, names = dynamics.trace, dynamics.source.class_names
    predicted = names[trace.prediction[row, trace.steps[row] - 1]]
    cost = f"{trace.multiply_adds[row] / 1e6:.1f} M multiply-adds"
    return f"true: {names[trace.label[row]]}   predicted: {predicted}   {cost}"


def _draw_boxes(draw: ImageDraw.ImageDraw, dynamics: GlanceFocusDynamics, row: int, scale: int, offset: int) -> None:
    for top, left, bottom, right in (dynamics.trace.boxes[row] * scale).tolist():
        if bottom > top:
            draw.rectangle((offset + left, top, offset + right - 1, bottom - 1), outline=TRUE_BOX)
    for step in range(int(dynamics.trace.steps[row])):
        if _location(dynamics, row, step) is None:
            continue
        top, left = (int(v) * scale for v in dynamics.trace.top_left_px[row, step])
        spec = dynamics.classifier.spec
        side = (spec.patch_sizes[dynamics.trace.size[row, step - 1]] if step else spec.glance_side) * scale
        color = _color(dynamics, row, step)
        for wider in spec.scales[1:] if step else ():
            reach = (wider - 1) * side // 2
            draw.rectangle(
                (offset + left - reach, top - reach, offset + left + side + reach - 1, top + side + reach - 1),
                outline=color,
            )
        draw_patch(draw, (offset + left, top), side, _step_text(dynamics, row, step), color)


def _draw_strip(
    frame: Image.Image, dynamics: GlanceFocusDynamics, row: int, pixels: Tensor, corner: tuple[int, int], side: int
) -> None:
    draw = ImageDraw.Draw(frame)
    for step in range(int(dynamics.trace.steps[row])):
        left, top = corner[0], corner[1] + step * (side + _CAPTION + _MARGIN)
        seen = side_by_side(_seen(dynamics, row, pixels[None], step), (side, side))
        color = _color(dynamics, row, step)
        draw.text((left, top), _step_text(dynamics, row, step), fill=color, font=font(14))
        frame.paste(seen, (left, top + _CAPTION))
        bottom_right = (left + seen.width - 1, top + _CAPTION + side - 1)
        draw.rectangle((left, top + _CAPTION, *bottom_right), outline=color, width=2)


def shown_frames(pixels: Tensor) -> list[Image.Image]:
    """One picture of an image (3, H, W), up to four evenly spaced ones of a clip (F, 3, H, W), uint8."""
    frames = pixels[None] if pixels.ndim == 3 else pixels
    chosen = torch.linspace(0, len(frames) - 1, min(len(frames), _MOST_FRAMES)).round().long()
    return [Image.fromarray(frame.permute(1, 2, 0).cpu().numpy()) for frame in frames[chosen.to(frames.device)]]


def side_by_side(pictures: list[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Pictures in a row, each resized to (width, height) in pixels."""
    row = Image.new("RGB", (len(pictures) * size[0], size[1]))
    for index, picture in enumerate(pictures):
        row.paste(picture.resize(size, Image.Resampling.NEAREST), (index * size[0], 0))
    return row


def _seen(dynamics: GlanceFocusDynamics, row: int, image: Tensor, step: int) -> list[Image.Image]:
    location = _location(dynamics, row, step)
    if step == 0 or location is None:
        pixels = dynamics.classifier.first_input(image, location)
    else:
        pixels = dynamics.classifier.patches(image, location, size=int(dynamics.trace.size[row, step - 1]))
    return shown_frames(pixels[0].clamp(0, 255).to(torch.uint8))


def _location(dynamics: GlanceFocusDynamics, row: int, step: int) -> Tensor | None:
    """(1, 2) where a patch was; None for a glance."""
    location = dynamics.trace.location[row : row + 1, step]
    return None if location.isnan().any() else location


def _step_text(dynamics: GlanceFocusDynamics, row: int, step: int) -> str:
    return f"{step + 1}: {100 * dynamics.trace.label_probability[row, step]:.0f}%"


def _color(dynamics: GlanceFocusDynamics, row: int, step: int) -> tuple[int, int, int]:
    return RIGHT if dynamics.trace.prediction[row, step] == dynamics.trace.label[row] else WRONG


def draw_patch(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], side: int, text: str, color: tuple[int, int, int]
) -> None:
    """Draws the outline of a patch with a label; (left, top) and side are in pixels of the picture."""
    draw.rectangle((*corner, corner[0] + side - 1, corner[1] + side - 1), outline=color, width=3)
    left, top, right, bottom = draw.textbbox(corner, text, font=font(14))
    draw.rectangle((left, top, right + 4, bottom + 4), fill=color)
    draw.text((corner[0] + 2, corner[1] + 1), text, fill=(255, 255, 255), font=font(14))


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size=size)
