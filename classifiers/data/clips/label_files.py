"""Something-Something V1 and V2 and Jester, by their lists.

Two ways to list recordings are read, whichever there is in a data set's folder:

- TSM's: `category.txt`, a class a line, and `train_videofolder.txt` and `val_videofolder.txt`, whose lines are
  `folder frames class`;
- the official: `PREFIX-labels.csv` or `.json`, `PREFIX-train` and `PREFIX-validation`; CSV lines are `id;class`, JSON
  entries have `id` and `template`, whose brackets are not part of the class's name.

Classes are numbered as TSM's authors do: CSV ones in alphabetical order, JSON ones as the file says, so that their
checkpoints' logits fit. A recording is a folder of frames, or a video file named after the folder or the id.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from classifiers.data.clips.recordings import VIDEO_EXTENSIONS, FrameFolder, Recording, VideoFile

_LISTS = {"train": "train", "val": "val", "test": "val"}  # labels of the test splits were never published
_OFFICIAL = {"train": "train", "val": "validation", "test": "validation"}


class _Entry(NamedTuple):
    """One recording of a list: its folder or id, its class, and its frames if they are known."""

    name: str
    label: int
    num_frames: int | None = None


def find_listed(
    root: Path, split: str, prefix: str, folders: tuple[str, ...]
) -> tuple[list[Recording], list[int], tuple[str, ...]]:
    """The recordings of a split, their labels, and the names of all classes.

    Labels of the test splits were never published, so `"test"` means `"val"`.

    Args:
        root: the data set's folder.
        split: one of `classifiers.data.collection.SPLITS`.
        prefix: of its official label files.
        folders: names, inside the data set's folder, of the folder that holds recordings; it may hold them itself.

    Raises:
        FileNotFoundError: if there is no such folder, or no list in it.
        ValueError: if a list is empty or damaged, or names a recording that is missing or a class that there is not.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; pass the data set's, with its lists and recordings inside")
    if (root / "category.txt").is_file():
        path = root / f"{_LISTS[split]}_videofolder.txt"
        names = tuple(_lines(root / "category.txt"))
        entries = [_tsm_entry(line, len(names), path) for line in _lines(path)]
    else:
        path = _official_file(root, prefix, _OFFICIAL[split])
        names, entries = _official_list(path, _official_file(root, prefix, "labels"))
    if not entries:
        raise ValueError(f"{path} lists no recording; restore it from a copy")
    return _recordings(root, folders, entries, path), [entry.label for entry in entries], names


def _tsm_entry(line: str, num_classes: int, path: Path) -> _Entry:
    try:
        name, frames, label = line.rsplit(maxsplit=2)
        entry = _Entry(name, int(label), int(frames))
    except ValueError as error:
        raise ValueError(f"{path}: {line[:80]!r} is not `folder frames class`; restore the list from a copy") from error
    if not 0 <= entry.label < num_classes:
        raise ValueError(
            f"{path}: {line!r} has class {label}, category.txt 0 to {num_classes - 1}; the files don't belong together"
        )
    return entry


def _official_list(path: Path, labels: Path) -> tuple[tuple[str, ...], list[_Entry]]:
    if labels.suffix == ".csv":
        names = tuple(sorted(_lines(labels)))
        found = [line.partition(";")[::2] for line in _lines(path)]
    else:
        numbered = {int(number): name for name, number in json.loads(labels.read_text(encoding="utf-8")).items()}
        names = tuple(numbered[number] for number in range(len(numbered)))
        found = [
            (str(entry["id"]), entry["template"].replace("[", "").replace("]", ""))
            for entry in json.loads(path.read_text(encoding="utf-8"))
        ]
    numbers = {name: label for label, name in enumerate(names)}
    for name, label in found:
        if label not in numbers:
            raise ValueError(f"{path}: {name} has class {label!r}, which {labels.name} does not name")
    return names, [_Entry(name, numbers[label]) for name, label in found]


def _official_file(root: Path, prefix: str, part: str) -> Path:
    """Where an official file is: in the data set's folder or in `labels/`, with the prefix or, as of late, without."""
    endings = [f"{prefix}-{part}.csv", f"{prefix}-{part}.json"]
    places = [root / folder / name for folder in ("", "labels") for name in (*endings, f"{part}.csv", f"{part}.json")]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"{root} holds neither category.txt nor {endings[0]} or {endings[1]}; pass the folder with a data set's lists"
    )


def _recordings(root: Path, folders: tuple[str, ...], entries: Sequence[_Entry], listed_in: Path) -> list[Recording]:
    """Where each entry's frames are; every folder is listed once, since there are 200,000 entries."""
    listed: dict[Path, dict[str, str]] = {}

    def names_in(folder: Path) -> dict[str, str]:
        """Names inside a folder, and for names of video files also without their ending."""
        if folder not in listed:
            names = os.listdir(folder) if folder.is_dir() else []
            videos = {
                os.path.splitext(name)[0]: name for name in names if Path(name).suffix.lower() in VIDEO_EXTENSIONS
            }
            listed[folder] = {**videos, **{name: name for name in names}}
        return listed[folder]

    recordings: list[Recording] = []
    for entry in entries:
        for base in (root, *(root / folder for folder in folders)):
            path = base / entry.name
            if path.name in (names := names_in(path.parent)):
                path = path.parent / names[path.name]
                is_video = path.suffix.lower() in VIDEO_EXTENSIONS
                recordings.append(VideoFile(path) if is_video else FrameFolder(path, entry.num_frames))
                break
        else:
            raise ValueError(
                f"{listed_in}: {entry.name} is missing in {root}, as a folder of frames and as a video; extract it "
                "again, or correct the list"
            )
    return recordings


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
