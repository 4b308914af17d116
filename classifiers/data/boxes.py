"""Boxes of the objects that decide images' labels, from `boxes.csv`: for evaluation and pictures.

One line for each box, `file,top,left,bottom,right` and, if known, `track` (the physical thing or the recording, which
evaluation does not need). `file` is relative to the folder of `boxes.csv`; the box is in pixels of the upright image at
the size that it has on disk, bottom and right exclusive. In place of the corners, `x,y,w,h` (left, top, width, height)
is read as well, as annotation tools write it. Files without a line have no known box; a file may have several.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from classifiers.data.decoding import UnreadableImageError, center_crop, upright_size
from classifiers.data.loading import map_threads

BOXES_FILE = "boxes.csv"
"""Its name in a tree of images, beside `train/` and `val/`."""

_CORNERS, _CORNER_AND_SIZE = ("top", "left", "bottom", "right"), ("x", "y", "w", "h")


class StoredBox(NamedTuple):
    """A line of a boxes file: the line's number, and the box in pixels of the stored image."""

    line: int
    top: float
    left: float
    bottom: float
    right: float


def read_boxes(path: Path) -> dict[str, list[StoredBox]]:
    """The boxes of a file by the path of their image, in the order of their lines.

    Raises:
        ValueError: if a column is missing or unknown, or a box is not four numbers with a size above 0.
        FileNotFoundError: if an image that it names is not there.
    """
    boxes: dict[str, list[StoredBox]] = {}
    with open(path, newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        columns = tuple(rows.fieldnames or ())
        given = set(columns) - {"track"}
        names = next((names for names in (_CORNERS, _CORNER_AND_SIZE) if given == {"file", *names}), None)
        if names is None:
            raise ValueError(
                f"{path} has the columns {', '.join(map(str, columns)) or '(none)'}; pass file,{','.join(_CORNERS)} or "
                f"file,{','.join(_CORNER_AND_SIZE)} and, if known, track"
            )
        for row in rows:
            box = _stored_box(rows.line_num, [row[name] for name in names], has_corners=names == _CORNERS)
            if box is None:
                texts = ", ".join(f"{name}={row[name]!r}" for name in names)
                size = "bottom above top, right above left" if names == _CORNERS else "w and h above 0"
                raise ValueError(f"{path}, line {rows.line_num}: {texts}; pass four numbers, {size}")
            file = os.path.normpath(path.parent / (row["file"] or ""))
            if not os.path.isfile(file):
                raise FileNotFoundError(
                    f"{path}, line {box.line}: {row['file']!r} is not a file of {path.parent}; name files relative to "
                    "it, or remove the line"
                )
            boxes.setdefault(file, []).append(box)
    return boxes


def _stored_box(line: int, texts: list[str | None], *, has_corners: bool) -> StoredBox | None:
    """A box from its four columns; None if they are no box."""
    try:
        first, second, third, fourth = (float(text or "nan") for text in texts)
    except ValueError:
        return None
    if has_corners:
        box = StoredBox(line, first, second, third, fourth)
    else:
        box = StoredBox(line, second, first, second + fourth, first + third)
    is_box = all(map(math.isfinite, box)) and box.top < box.bottom and box.left < box.right
    return box if is_box else None


def boxes_in_frame(path: Path, files: Sequence[str], size: tuple[int, int], crop_pct: float) -> Tensor:
    """The boxes (L, N, 4) int64 of L files in the pixels of a frame (H, W) that they are scaled and cropped to.

    N is the largest number of boxes of a file, at least 1. Of each file that has a box, the header is read, for the
    size of the image. What the crop leaves of a box is its box; it is all zero if nothing is left. For the errors see
    `read_boxes`; a `ValueError`, too, if the center of a box lies outside its image.
    """
    stored = read_boxes(path)
    most = max(map(len, stored.values()), default=1)
    boxes = torch.zeros(len(files), most, 4, dtype=torch.int64)
    known = [
        (index, number, box)
        for index, file in enumerate(files)
        for number, box in enumerate(stored.get(os.path.normpath(file), ()))
    ]

    def in_frame(position: int) -> tuple[int, int, int, int]:
        index, _, box = known[position]
        try:
            height, width = upright_size(files[index])
        except UnreadableImageError:
            return 0, 0, 0, 0  # decoding the file says so
        if not (0 <= (box.left + box.right) / 2 <= width and 0 <= (box.top + box.bottom) / 2 <= height):
            raise ValueError(
                f"{path}, line {box.line}: the center of the box lies outside {files[index]}, which has "
                f"{height}x{width} pixels; give boxes in pixels of the image as it is stored"
            )
        return fitted_box(box, (height, width), size, crop_pct)

    for (index, number, _), box in zip(known, map_threads(in_frame, range(len(known))), strict=True):
        boxes[index, number] = torch.tensor(box)
    return boxes


def fitted_box(
    box: StoredBox, stored: tuple[int, int], size: tuple[int, int], crop_pct: float
) -> tuple[int, int, int, int]:
    """Where `fit_image` moves a box in an image of `stored` (H, W) pixels.

    Returns:
        (top, left, bottom, right) of its visible part in pixels of the frame; zeros if none of it is visible.
    """
    left, top, right, bottom = center_crop(stored, size, crop_pct)
    rows, columns = size[0] / (bottom - top), size[1] / (right - left)
    edges = (
        (round((box.top - top) * rows), round((box.bottom - top) * rows), size[0]),
        (round((box.left - left) * columns), round((box.right - left) * columns), size[1]),
    )
    (upper, lower), (first, last) = ((max(0, low), min(max(high, low + 1), most)) for low, high, most in edges)
    return (upper, first, lower, last) if upper < lower and first < last else (0, 0, 0, 0)
