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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from classifiers.data.clips.recordings import FrameFolder, Recording, VideoFile
from classifiers.data.clips.videos import EXTENSIONS


@dataclass(frozen=True)
class Layout:
    """How a data set is laid out on disk.

    Attributes:
        prefix: of its official label files.
        folders: names, inside the data set's folder, of the folder that holds recordings; it may hold them itself.
        template: name of a frame by its number.
    """

    prefix: str
    folders: tuple[str, ...]
    template: str = "{:05d}.jpg"


SOMETHING_V1 = Layout("something-something-v1", ("20bn-something-something-v1",))
SOMETHING_V2 = Layout(
    "something-something-v2", ("20bn-something-something-v2-frames", "20bn-something-something-v2"), "{:06d}.jpg"
)
JESTER = Layout("jester-v1", ("20bn-jester-v1",))

_LISTS = {"train": "train", "val": "val", "test": "val"}  # labels of the test splits were never published
_OFFICIAL = {"train": "train", "val": "validation", "test": "validation"}


class _Entry(NamedTuple):
    """One recording of a list: its folder or id, its class, its frames if they are known, and where that is written."""

    name: str
    label: int
    num_frames: int | None
    where: str


def find_clips(root: Path, split: str, layout: Layout) -> tuple[list[Recording], list[int], tuple[str, ...]]:
    """Finds the recordings of a split.

    Args:
        root: folder with the lists, and recordings somewhere inside.
        split: `"train"`, `"val"` or `"test"`; labels of the test splits were never published, so it means `"val"`.
        layout: the data set's.

    Returns:
        The recordings, their labels, and the names of all classes.

    Raises:
        FileNotFoundError: if there is no such folder, or no list in it.
        ValueError: if a list is damaged, or names a recording that is missing or a class that there is not.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; pass the data set's, with its lists and recordings inside")
    if (root / "category.txt").is_file():
        names = tuple(line for line in _lines(root / "category.txt") if line)
        entries = _tsm_list(root / f"{_LISTS[split]}_videofolder.txt", names)
    else:
        names, entries = _official_list(root, layout, _OFFICIAL[split])
    if not entries:
        raise ValueError(f"{entries_file(root, split, layout)} lists no recording; restore it from a copy")
    recordings = _recordings(root, layout, entries)
    return recordings, [entry.label for entry in entries], names


def entries_file(root: Path, split: str, layout: Layout) -> Path:
    """The file that lists the recordings of a split."""
    if (root / "category.txt").is_file():
        return root / f"{_LISTS[split]}_videofolder.txt"
    return _official_file(root, layout, _OFFICIAL[split])


def _tsm_list(path: Path, names: Sequence[str]) -> list[_Entry]:
    entries = []
    for number, line in enumerate(_lines(path), 1):
        if not line:
            continue
        parts, where = line.rsplit(maxsplit=2), f"{path}, line {number}"
        if len(parts) != 3 or not parts[1].isdecimal() or not parts[2].lstrip("-").isdecimal() or int(parts[1]) < 1:
            raise ValueError(f"{where}: {line[:80]!r} is not `folder frames class`; restore the list from a copy")
        if not 0 <= int(parts[2]) < len(names):
            raise ValueError(
                f"{where}: class {parts[2]} is outside category.txt, which holds 0 to {len(names) - 1}; the two files "
                "don't belong together"
            )
        entries.append(_Entry(parts[0], int(parts[2]), int(parts[1]), where))
    return entries


def _official_list(root: Path, layout: Layout, part: str) -> tuple[tuple[str, ...], list[_Entry]]:
    labels, path = _official_file(root, layout, "labels"), _official_file(root, layout, part)
    if labels.suffix == ".csv":
        names = tuple(sorted(line for line in _lines(labels) if line))
        found = [(number, *line.partition(";")[::2]) for number, line in enumerate(_lines(path), 1) if line]
    else:
        by_number = {str(number): name for name, number in _json(labels, dict).items()}
        if by_number.keys() != {str(number) for number in range(len(by_number))}:
            raise ValueError(f"{labels} does not number its classes 0, 1, ...; restore it from a copy")
        names = tuple(by_number[str(number)] for number in range(len(by_number)))
        found = list(_json_entries(path))
    numbers = {name: label for label, name in enumerate(names)}
    for number, name, label in found:
        if label not in numbers:
            raise ValueError(f"{path}, entry {number}: {name} has class {label!r}, which {labels.name} does not name")
    return names, [_Entry(name, numbers[label], None, f"{path}, entry {n}") for n, name, label in found]


def _json_entries(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, entry in enumerate(_json(path, list), 1):
        if not isinstance(entry, dict) or not {"id", "template"} <= entry.keys():
            raise ValueError(f"{path}, entry {number} has no id or no template; restore it from a copy")
        yield number, str(entry["id"]), str(entry["template"]).replace("[", "").replace("]", "")


def _official_file(root: Path, layout: Layout, part: str) -> Path:
    """Where an official file is: in the data set's folder or in `labels/`, with the prefix or, as of late, without."""
    endings = [f"{layout.prefix}-{part}.csv", f"{layout.prefix}-{part}.json"]
    places = [root / folder / name for folder in ("", "labels") for name in (*endings, f"{part}.csv", f"{part}.json")]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"{root} holds neither category.txt nor {endings[0]} or {endings[1]}; pass the folder with a data set's lists"
    )


def _recordings(root: Path, layout: Layout, entries: Sequence[_Entry]) -> list[Recording]:
    """Where each entry's frames are; every folder is listed once, since there are 200,000 entries."""
    listed: dict[Path, dict[str, str]] = {}

    def names_in(folder: Path) -> dict[str, str]:
        """Names inside a folder, and for names of video files also without their ending."""
        if folder not in listed:
            names = os.listdir(folder) if folder.is_dir() else []
            videos = {os.path.splitext(name)[0]: name for name in names if Path(name).suffix.lower() in EXTENSIONS}
            listed[folder] = {**videos, **{name: name for name in names}}
        return listed[folder]

    recordings: list[Recording] = []
    for entry in entries:
        for base in (root, *(root / folder for folder in layout.folders)):
            path = base / entry.name
            if path.name in (names := names_in(path.parent)):
                recordings.append(_recording(path.parent / names[path.name], layout, entry.num_frames))
                break
        else:
            raise ValueError(
                f"{entry.where}: {entry.name} is missing in {root}, as a folder of frames and as a video; extract it "
                "again, or correct the list"
            )
    return recordings


def _recording(path: Path, layout: Layout, num_frames: int | None) -> Recording:
    if path.suffix.lower() in EXTENSIONS:
        return VideoFile(path)
    return FrameFolder(path, layout.template, num_frames)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist; pass the folder with the data set's lists") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file; restore it from a copy") from error


def _json(path: Path, kind: type) -> Any:
    try:
        content = json.loads("\n".join(_lines(path)))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON (line {error.lineno}); restore it from a copy") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} is not a {kind.__name__}; restore it from a copy")
    return content
