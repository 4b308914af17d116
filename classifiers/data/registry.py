"""The kinds of images and clips that there are: environments, configs and commands open them all through one table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from classifiers.data.boxes import BOXES_FILE
from classifiers.data.clips.collections import Jester, SomethingSomethingV1, SomethingSomethingV2, VideoFolder
from classifiers.data.collection import FileCollection, ImageCollection, OnProgress, check_images_are_wanted
from classifiers.data.folder import FolderImages, class_folders
from classifiers.data.source import ImageSource
from classifiers.data.synthetic_gestures.source import SyntheticGestures
from classifiers.data.synthetic_signs.cache import load_scenes
from classifiers.data.synthetic_signs.scenes import SceneSpec
from classifiers.data.synthetic_signs.signs import CLASS_NAMES
from classifiers.data.torchvision_sets import TorchvisionImages


@dataclass(frozen=True, kw_only=True)
class SyntheticSigns:
    """The embedded task's generated road scenes.

    Attributes:
        scenes: what they look like.
    """

    needs_counts: ClassVar[bool] = True
    scenes: SceneSpec = dataclasses.field(default_factory=SceneSpec)

    @property
    def image_size(self) -> tuple[int, int]:
        """See `ImageCollection.image_size`."""
        return self.scenes.height, self.scenes.width

    def class_names(self) -> tuple[str, ...]:
        """See `ImageCollection.class_names`."""
        return CLASS_NAMES

    def open(self, split: str, count: int | None = None, on_progress: OnProgress | None = None) -> ImageSource:
        """See `ImageCollection.open`."""
        if count is None:
            raise ValueError("the number of scenes is missing; say how many to draw")
        return load_scenes(self.scenes, split, count, on_progress=on_progress)

    def open_augmented(self, count: int | None, seed: int) -> None:
        """See `ImageCollection.open_augmented`."""
        return None

    def calibration_split(self, reported: str) -> str:
        """See `ImageCollection.calibration_split`."""
        return "train" if reported == "val" else "val"

    def with_frames(self, num_frames: int | None) -> Self:
        """See `ImageCollection.with_frames`."""
        check_images_are_wanted(num_frames)
        return self


@dataclass(frozen=True, kw_only=True)
class ImageFolder(FileCollection):
    """A tree of image files.

    Attributes:
        root: holds `train/` and `val/` (and `test/`, else `val/` is reported on), each with one folder per class; if it
            holds a `boxes.csv`, too (see `classifiers.data.boxes`), evaluation and pictures show the boxes.
    """

    root: str | Path | None = None

    def class_names(self) -> tuple[str, ...] | None:
        """See `ImageCollection.class_names`."""
        return None if self.root is None else class_folders(self._tree / "train")

    def files(self, split: str) -> FolderImages:
        """See `FileCollection.files`."""
        boxes = self._tree / BOXES_FILE
        return FolderImages.open(
            self._folder(split),
            self.image_size,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            boxes_file=boxes if boxes.is_file() else None,
        )

    def calibration_split(self, reported: str) -> str:
        """See `ImageCollection.calibration_split`."""
        return "train" if self._folder(reported).name == "val" else "val"

    @property
    def _tree(self) -> Path:
        if self.root is None:
            raise ValueError("data.root is missing; pass --set data.root=TREE, a folder with train/ and val/ inside")
        if not Path(self.root).is_dir():
            raise FileNotFoundError(f"{self.root} is not a folder; pass a tree with train/ and val/ inside")
        return Path(self.root)

    def _folder(self, split: str) -> Path:
        root = Path(self.root or "")
        return root / ("val" if split == "test" and not (root / "test").is_dir() else split)


COLLECTIONS: dict[str, type[ImageCollection]] = {
    "synthetic_signs": SyntheticSigns,
    "image_folder": ImageFolder,
    "torchvision": TorchvisionImages,
    "synthetic_gestures": SyntheticGestures,
    "something_something_v1": SomethingSomethingV1,
    "something_something_v2": SomethingSomethingV2,
    "jester": Jester,
    "video_folder": VideoFolder,
}
"""The kinds of images and clips, by name."""


def collection(kind: str, settings: dict[str, Any]) -> ImageCollection:
    """Makes a collection of a kind.

    Args:
        kind: a key of `COLLECTIONS`.
        settings: its fields by name; those of other kinds are left out.

    Returns:
        The collection.

    Raises:
        ValueError: if the kind is unknown, or a setting is out of range.
    """
    if kind not in COLLECTIONS:
        raise ValueError(f"kind={kind!r} is unknown; pass one of {', '.join(COLLECTIONS)}")
    own = settings_of(kind)
    return COLLECTIONS[kind](**{name: value for name, value in settings.items() if name in own})


def settings_of(kind: str) -> tuple[str, ...]:
    """Names of the settings of a kind of images."""
    return tuple(field.name for field in dataclasses.fields(COLLECTIONS[kind]))  # type: ignore[arg-type]  # all are dataclasses
