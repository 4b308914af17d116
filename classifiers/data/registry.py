"""The table of all kinds of images and clips; environments, configs and commands open them through it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from classifiers.checks import check_known
from classifiers.data.boxes import BOXES_FILE
from classifiers.data.clips.collections import Jester, SomethingSomethingV1, SomethingSomethingV2, VideoFolder
from classifiers.data.collection import SPLITS, FileCollection, ImageCollection
from classifiers.data.drawn_tasks.count import Count
from classifiers.data.drawn_tasks.pointer import Pointer
from classifiers.data.drawn_tasks.search import Search
from classifiers.data.drawn_tasks.sign_pair import SignPair
from classifiers.data.drawn_tasks.zoom_stop import ZoomStop
from classifiers.data.file_tree import class_files, class_folders, split_folder, training_classes
from classifiers.data.folder import FolderImages
from classifiers.data.groups import GROUPS_FILE, match_groups, read_groups, refuse_shared_groups
from classifiers.data.synthetic_gestures import SyntheticGestures
from classifiers.data.synthetic_signs.scenes import SyntheticSigns
from classifiers.data.torchvision_sets import TorchvisionImages
from classifiers.settings import UserPath


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from None
    return pattern


class ImageFolder(FileCollection):
    """A tree of image files.

    Attributes:
        root: holds `train/` and `val/` (and `test/`, else results are on `val/`), each with one folder per class; if it
            holds a `boxes.csv`, too (see `classifiers.data.boxes`), evaluation and pictures show the boxes; a
            `groups.csv` (see `classifiers.data.groups`) names files that must not be divided among splits.
        groups: a regular expression that names these groups by the files' names, in place of `groups.csv`; see
            `classifiers.data.groups.match_groups`. None: there are none.
    """

    kind: Literal["image_folder"] = "image_folder"
    root: UserPath | None = None
    groups: Annotated[str, AfterValidator(_compiles)] | None = None

    def class_names(self) -> tuple[str, ...] | None:
        """Names of the class folders."""
        return None if self.root is None else class_folders(self._tree / "train")

    def files(self, split: str) -> FolderImages:
        """All files of a split, labeled by the training images' classes where there are some."""
        boxes = self._tree / BOXES_FILE
        return FolderImages.open(
            split_folder(self._tree, split),
            boxes_file=boxes if boxes.is_file() else None,
            class_names=training_classes(self._tree, split),
            **self.fit,
        )

    def check_groups(self) -> None:
        """Raises a `ValueError` that lists the groups of files that are in several splits."""
        table = self._tree / GROUPS_FILE
        if self.groups is None and not table.is_file():
            return
        files = {
            split: class_files(self._tree / split, "image", training_classes(self._tree, split))[0]
            for split in SPLITS
            if (self._tree / split).is_dir()
        }
        if self.groups is None:
            refuse_shared_groups(files, read_groups(table), str(table))
        else:
            refuse_shared_groups(files, match_groups(self.groups, files, self._tree), f"data.groups={self.groups!r}")

    def calibration_split(self, reported: str) -> str:
        """`"train"` if results are reported on `val/`, else `"val"`."""
        return "train" if split_folder(self.root or Path(), reported).name == "val" else "val"

    @property
    def _tree(self) -> Path:
        if self.root is None:
            raise ValueError("data.root is missing; pass --set data.root=TREE, a folder with train/ and val/ inside")
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} is not a folder; pass a tree with train/ and val/ inside")
        return self.root


COLLECTIONS: dict[str, type[ImageCollection]] = {
    "synthetic_signs": SyntheticSigns,
    "sign_pair": SignPair,
    "search": Search,
    "pointer": Pointer,
    "count": Count,
    "zoom_stop": ZoomStop,
    "image_folder": ImageFolder,
    "torchvision": TorchvisionImages,
    "synthetic_gestures": SyntheticGestures,
    "something_something_v1": SomethingSomethingV1,
    "something_something_v2": SomethingSomethingV2,
    "jester": Jester,
    "video_folder": VideoFolder,
}
"""The kinds of images and clips, by name; a user may add some."""


def make_collection(given: Any) -> Any:
    """The collection of the kind that settings name.

    Args:
        given: settings, `kind` among them; anything else is returned as it is.

    Returns:
        The collection.

    Raises:
        ValueError: if the kind is unknown, or a setting is not one of that kind or out of range.
    """
    if not isinstance(given, dict):
        return given
    kind = given.get("kind")
    check_known("kind", str(kind), COLLECTIONS)
    return COLLECTIONS[str(kind)].model_validate(given)
