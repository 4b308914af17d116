"""Files in folders: one walk for trees of images, trees of videos and `gfnet predict`.

Hidden entries and macOS's `__MACOSX` are passed over. Links are followed, and a folder to which several lead is entered
once. A warning counts the other files.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path

from classifiers.data.clips.recordings import VIDEO_EXTENSIONS
from classifiers.data.decoding import EXTENSIONS

_ENDINGS = {"image": EXTENSIONS, "video": VIDEO_EXTENSIONS}


def split_folder(root: Path, split: str) -> Path:
    """Where a tree keeps a split; `val/` is reported on if there is no `test/`."""
    return root / ("val" if split == "test" and not (root / "test").is_dir() else split)


def training_classes(root: Path, split: str) -> tuple[str, ...] | None:
    """The classes of a tree by which another split than the training images is labeled; None if nothing says."""
    return class_folders(root / "train") if split != "train" and (root / "train").is_dir() else None


def class_folders(root: Path) -> tuple[str, ...]:
    """Names of a tree's class folders in alphabetical order; raises as `class_files` does."""
    names = sorted(_subfolders(root))
    if len(names) < 2:
        raise ValueError(f"{root} holds {len(names)} class folders; pass a tree with one folder per class, two or more")
    return tuple(names)


def class_files(
    root: Path, kind: str, class_names: tuple[str, ...] | None = None
) -> tuple[list[str], list[int], tuple[str, ...]]:
    """The files of a tree with one folder per class.

    Args:
        root: the tree.
        kind: `"image"` or `"video"`.
        class_names: the classes, by label, of which the tree may lack some; None takes its folders.

    Returns:
        Paths of the files, class by class; their labels; names of the classes.

    Raises:
        FileNotFoundError: if there is no such tree.
        ValueError: if it holds fewer than two classes, or a class without a file, or one that is not known.
    """
    names = class_folders(root) if class_names is None else class_names
    present = _subfolders(root)
    if unknown := sorted(present - set(names)):
        raise ValueError(
            f"{root} holds the class folder {unknown[0]!r}, the training images know the classes {', '.join(names[:5])}"
            f"{', ...' if len(names) > 5 else ''} ({len(names)}); rename or remove it"
        )
    files: list[str] = []
    labels: list[int] = []
    useless: Counter[str] = Counter()
    for label, name in enumerate(names):
        if name not in present:
            continue
        found, others = _files(root / name, kind)
        if not found:
            other = "video" if kind == "image" else "image"
            hint = f"; data.kind={other}_folder reads {other}s" if _ENDINGS[other] & others.keys() else ""
            raise ValueError(
                f"class folder {root / name} holds no {kind}; add some ({', '.join(sorted(_ENDINGS[kind]))}) or remove "
                f"it{hint}"
            )
        files += found
        labels += [label] * len(found)
        useless += others
    _warn(root, useless, kind)
    return files, labels, names


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder at any depth, in order."""
    found, others = _files(folder, "image")
    _warn(folder, others, "image")
    return [Path(path) for path in found]


def find_clips(folder: Path) -> list[Path]:
    """The recordings of a folder at any depth, in order: video files, and folders that hold images."""
    frames, _ = _files(folder, "image")
    videos, others = _files(folder, "video")
    _warn(folder, Counter({ending: count for ending, count in others.items() if ending not in EXTENSIONS}), "clip")
    return sorted({*(Path(path).parent for path in frames), *map(Path, videos)})


def _subfolders(root: Path) -> set[str]:
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; pass a tree that holds it, with one folder per class inside")
    return {path.name for path in root.iterdir() if _counts(path.name) and path.is_dir()}


def _counts(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _files(folder: Path, kind: str) -> tuple[list[str], Counter[str]]:
    """Paths of a folder's files of a kind, folder by folder in order, and how many others there are of each ending."""
    found: list[str] = []
    others: Counter[str] = Counter()
    place = Path(os.path.realpath(folder))
    entered = {str(each) for each in (place, *place.parents)}  # a link to a folder above is a loop
    for inner, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _counts(name) and _is_new(os.path.join(inner, name), entered)]
        for path in (os.path.join(inner, name) for name in names if _counts(name)):
            ending = os.path.splitext(path)[1].lower()
            if not os.path.isfile(path):
                others["broken links" if os.path.islink(path) else "special files"] += 1
            elif ending in _ENDINGS[kind]:
                found.append(path)
            else:
                others[ending or "without ending"] += 1
    return sorted(found, key=lambda path: path.replace(os.sep, "\0")), others


def _is_new(folder: str, entered: set[str]) -> bool:
    """Whether no other path has led into a folder; from now on, one has."""
    place = os.path.realpath(folder)
    is_new = place not in entered
    entered.add(place)
    return is_new


def _warn(folder: Path, useless: Counter[str], kind: str) -> None:
    if useless:
        listed = ", ".join(f"{count} {ending}" for ending, count in useless.most_common(5))
        warnings.warn(f"{folder}: entries that are not {kind}s are left out: {listed}", stacklevel=3)
