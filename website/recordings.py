"""Drawn gestures in the files of a data set of recorded clips, for animations of ids whose own clips can't be shown."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from classifiers.data.clips.label_files import JESTER, SOMETHING_V1, SOMETHING_V2, Layout
from classifiers.data.clips.videos import ffmpeg_program
from classifiers.data.synthetic_gestures.clips import CLASS_NAMES, Gesture, GestureSpec, draw_gesture

LAYOUTS: dict[str, Layout | None] = {
    "something_something_v1": SOMETHING_V1,
    "something_something_v2": SOMETHING_V2,
    "jester": JESTER,
    "video_folder": None,
}
"""Kinds of data that can be written: folders of frames with lists, or a tree of videos (None)."""


def write_recordings(folder: Path, kind: str, counts: dict[str, int]) -> None:
    """Writes the first drawn gestures of each split, 8 frames of 96x96 pixels; files that are there are overwritten.

    Frames are JPEG of the best quality, videos FFV1, which loses nothing.

    Args:
        folder: of the data set.
        kind: a key of `LAYOUTS`.
        counts: clips by split, `"train"` and `"val"`.

    Raises:
        KeyError: if the kind is unknown.
        OSError: if a file can't be written.
        ValueError: if there is no FFmpeg, for videos.
    """
    layout = LAYOUTS[kind]
    for split, count in counts.items():
        gestures = [draw_gesture(GestureSpec(), split, index) for index in range(count)]
        if layout is None:
            _write_videos(folder / split, gestures)
        else:
            _write_frames(folder, split, gestures, layout)


def _write_frames(folder: Path, split: str, gestures: list[Gesture], layout: Layout) -> None:
    """As TSM's authors have them: `category.txt`, `SPLIT_videofolder.txt`, and frames as JPEG of the best quality."""
    lines = []
    for number, gesture in enumerate(gestures):
        name = f"{split}_{number}"
        place = folder / layout.folders[0] / name
        place.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(gesture.frames, 1):
            Image.fromarray(frame).save(place / layout.template.format(index), quality=100, subsampling=0)
        lines.append(f"{name} {len(gesture.frames)} {gesture.label}\n")
    (folder / "category.txt").write_text("\n".join(CLASS_NAMES) + "\n", encoding="utf-8")
    (folder / f"{split}_videofolder.txt").write_text("".join(lines), encoding="utf-8")


def _write_videos(folder: Path, gestures: list[Gesture]) -> None:
    """One folder per class, numbered so that the alphabet keeps their order."""
    for number, gesture in enumerate(gestures):
        place = folder / f"{gesture.label} {CLASS_NAMES[gesture.label]}"
        place.mkdir(parents=True, exist_ok=True)
        _encode(place / f"{number:05d}.mkv", gesture.frames)


def _encode(path: Path, frames: np.ndarray) -> None:
    _, height, width, _ = frames.shape
    subprocess.run(
        [
            *(ffmpeg_program(), "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"),
            *("-s", f"{width}x{height}", "-r", "8", "-i", "-", "-c:v", "ffv1", "-pix_fmt", "bgr0", str(path)),
        ],
        input=frames.tobytes(),
        check=True,
    )
