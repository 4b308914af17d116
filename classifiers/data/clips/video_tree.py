"""A tree of video files with one folder per class."""

from __future__ import annotations

import os
from pathlib import Path

from classifiers.data.clips.recordings import VideoFile
from classifiers.data.clips.videos import EXTENSIONS
from classifiers.data.folder import image_files


def find_videos(root: Path) -> tuple[list[VideoFile], list[int], tuple[str, ...]]:
    """Finds the videos of a tree.

    Args:
        root: folder with one folder per class, which hold videos at any depth.

    Returns:
        The videos, class by class, their labels, and the names of the classes: the folders in alphabetical order.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds fewer than two classes, or a class without a video.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; pass a tree that holds it, with one folder per class inside")
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(f"{root} holds {len(classes)} class folders; pass a tree with two or more, full of videos")
    recordings: list[VideoFile] = []
    labels: list[int] = []
    for label, folder in enumerate(classes):
        found = sorted(_videos(folder))
        if not found:
            if image_files(folder):
                raise ValueError(
                    f"class folder {folder} holds images, not videos; pass them as data.kind=image_folder or to "
                    "GFNet-ImageFolder-v0"
                )
            raise ValueError(
                f"class folder {folder} holds no video; add some ({', '.join(sorted(EXTENSIONS))}) or remove it"
            )
        recordings += map(VideoFile, found)
        labels += [label] * len(found)
    return recordings, labels, tuple(folder.name for folder in classes)


def _videos(folder: Path) -> list[Path]:
    files = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
    return [file for file in files if file.suffix.lower() in EXTENSIONS and file.is_file()]
