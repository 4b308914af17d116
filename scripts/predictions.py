"""What `gfnet predict` shows of recognized files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.table import Table

from agents.recognition.recognizer import Recognition, Recognizer
from classifiers.data.decoding import EXTENSIONS
from classifiers.data.file_tree import find_clips, image_files
from classifiers.networks.geometry import top_left_px
from gfnet_env.rendering import draw_patch, font, shown_frames, side_by_side
from scripts.console import printable
from scripts.episodes import save_png

_BOX, _INK, _PAPER = (25, 103, 210), (30, 30, 34), (250, 250, 248)
_LEAST_SIDE = 384
_LONGEST_STEM = 60  # characters of a file's name that its picture keeps: a name has at most 255 bytes


def files_to_predict(paths: Sequence[Path | str], *, clips: bool = False) -> list[Path | str]:
    """Files and addresses as they are named, and the image files of folders at any depth, in order.

    Args:
        paths: files and folders; texts are addresses.
        clips: whether to look for clips: videos, and folders that hold images, which are frames.

    Returns:
        The files.

    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: if a folder holds no image, or a path is neither a regular file nor a folder.
    """
    wanted = "a video, a folder of frames or a folder of these" if clips else "an image or a folder of images"
    files: list[Path | str] = []
    for path in paths:
        if isinstance(path, str):
            files.append(path)
        elif path.is_dir():
            inside = find_clips(path) if clips else image_files(path)
            if not inside and clips:
                raise ValueError(f"{path} holds no video and no frame; pass {wanted}")
            if not inside:
                raise ValueError(f"{path} holds no image; pass one with {', '.join(sorted(EXTENSIONS))} files")
            files.extend(inside)
        elif path.is_file():
            files.append(path)
        elif path.exists():
            raise ValueError(f"{path} is neither a regular file nor a folder; pass {wanted}")
        else:
            raise FileNotFoundError(f"{path} does not exist; pass {wanted}")
    return files


def prediction_rows(recognizer: Recognizer, files: Sequence[object], found: Recognition) -> list[dict[str, Any]]:
    """One dict per file, for JSON: locations are those that were looked at, (row, col) in [0, 1].

    `top` lists the most probable classes, where more than one was asked for.
    """
    rows = [
        {
            "file": str(file),
            "label": int(found.label[row]),
            "class": recognizer.class_names[found.label[row]],
            "confidence": round(float(found.confidence[row]), 6),
            "steps": int(found.step[row]),
            "locations": found.locations[row, : found.step[row] - 1].tolist(),
            "patch_sizes": found.patch_sizes[row, : found.step[row] - 1].tolist(),
            "multiply_adds": int(found.multiply_adds[row]),
        }
        for row, file in enumerate(files)
    ]
    if found.top_labels.shape[1] > 1:
        for row, labels, values in zip(rows, found.top_labels, found.top_probabilities, strict=True):
            row["top"] = [
                {"label": int(label), "class": recognizer.class_names[label], "probability": round(float(value), 6)}
                for label, value in zip(labels, values, strict=True)
            ]
    return rows


def prediction_table(
    recognizer: Recognizer, files: Sequence[object], found: Recognition, *, num_skipped: int = 0
) -> Table:
    """One line per file, what it took on average, and how many files were skipped."""
    table = Table()
    table.add_column("file", overflow="fold")
    for column in ("class", "confidence", "steps", "multiply-adds"):
        table.add_column(column, justify="right")
    for row in prediction_rows(recognizer, files, found):
        top = row.get("top") or [{"class": row["class"], "probability": row["confidence"]}]
        classes = "\n".join(each["class"] for each in top)
        values = "\n".join(f"{each['probability']:.3f}" for each in top)
        table.add_row(row["file"], classes, values, str(row["steps"]), f"{row['multiply_adds']:,}")
    mean, kind = found.multiply_adds.mean(), kind_of_input(recognizer)
    table.caption = f"{len(files)} {kind}, {found.step.mean():.2f} steps and {mean:,.0f} multiply-adds on average"
    if num_skipped:
        table.caption += f"; {num_skipped} unreadable {kind} skipped"
    return table


def kind_of_input(recognizer: Recognizer) -> str:
    """What a recognizer takes, in the plural."""
    return "images" if recognizer.num_frames is None else "clips"


def save_pictures(folder: Path, recognizer: Recognizer, files: Sequence[Path | str], found: Recognition) -> None:
    """Writes each image with the patches that were looked at, as `0001_NAME.png` and so on; of a clip, four frames.

    Args:
        folder: where to; made if missing.
        recognizer: what recognized them.
        files: the images.
        found: what it found.

    Raises:
        OSError: if the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for row, (file, result) in enumerate(zip(files, prediction_rows(recognizer, files, found), strict=True)):
        pixels = recognizer.decode(file)
        caption = f"{result['class']}  {100 * result['confidence']:.0f}%  {result['multiply_adds'] / 1e6:.1f} M"
        picture = _picture(pixels, result["locations"], result["patch_sizes"], printable(caption))
        stem = Path(urlsplit(file).path).stem if isinstance(file, str) else file.stem
        save_png(folder / f"{row + 1:04}_{stem[:_LONGEST_STEM]}.png", picture)


def _picture(pixels: np.ndarray, locations: list[list[float]], sides: list[int], caption: str) -> Image.Image:
    height, width = pixels.shape[-3:-1]
    scale = max(1, -(-_LEAST_SIDE // min(height, width)))
    shown = shown_frames(torch.from_numpy(pixels.copy()).movedim(-1, -3))
    whole = side_by_side(shown, (width * scale, height * scale))
    frame = Image.new("RGB", (whole.width, whole.height + 24), _PAPER)
    frame.paste(whole, (0, 24))
    draw = ImageDraw.Draw(frame)
    draw.text((6, 3), caption, fill=_INK, font=font(14))
    for step, (location, side) in enumerate(zip(locations, sides, strict=True), start=2):
        top, left = top_left_px(torch.tensor([location]), (height, width), side)[0].tolist()
        for number in range(len(shown)):
            corner = ((number * width + left) * scale, top * scale + 24)
            draw_patch(draw, corner, side * scale, str(step), _BOX)
    return frame
