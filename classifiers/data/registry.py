"""The kinds of images that there are: environments, configs and commands open them all through one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from classifiers.data.boxes import BOXES_FILE
from classifiers.data.folder import FolderImages, check_folder_settings
from classifiers.data.random_crops import RandomCrops
from classifiers.data.source import ImageSource
from classifiers.data.synthetic_signs.cache import load_scenes
from classifiers.data.synthetic_signs.scenes import SceneSpec
from classifiers.data.synthetic_signs.signs import CLASS_NAMES

SPLITS = ("train", "val", "test")
"""Images to train on, to choose by, and to report on."""

OnProgress = Callable[[int, int], None]
"""Called with (images read or drawn, images in all)."""


class ImageCollection(Protocol):
    """Images with their splits, not opened yet; the implementations are frozen dataclasses of settings.

    Attributes:
        needs_counts: whether `open` must be told how many images.
    """

    needs_counts: ClassVar[bool]

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        ...

    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by label; None if nothing says yet where the images are."""
        ...

    def open(self, split: str, count: int | None = None, on_progress: OnProgress | None = None) -> ImageSource:
        """Opens a split.

        Args:
            split: one of `SPLITS`.
            count: at most so many images; None takes all.
            on_progress: see `OnProgress`.

        Returns:
            The images.

        Raises:
            ValueError: if the images are not what they should be.
            FileNotFoundError: if there are none.
        """
        ...

    def open_augmented(self, count: int | None, seed: int) -> ImageSource | None:
        """The training split with augmentation of the collection's own, drawn from a seed; None if it has none."""
        ...

    def calibration_split(self, reported: str) -> str:
        """The split that confidence thresholds are found on when `reported` is reported on: never the same images."""
        ...


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


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """A tree of image files.

    Attributes:
        root: holds `train/` and `val/` (and `test/`, else `val/` is reported on), each with one folder per class; if it
            holds a `boxes.csv`, too (see `classifiers.data.boxes`), evaluation and pictures show the boxes.
        height: images are scaled and cropped to this height, in pixels.
        width: likewise.
        crop_pct: fraction of each side that the centre crop keeps.
        interpolation: how files are scaled, a key of `classifiers.data.decoding.INTERPOLATIONS`.
        unreadable: `"raise"` or `"skip"` files that can't be decoded.
        train_crop: training sees random crops that keep between these fractions of the area; None: no random crops.

    Raises:
        ValueError: if a setting is out of range.
    """

    needs_counts: ClassVar[bool] = False
    root: str | Path | None = None
    height: int = 224
    width: int = 224
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    unreadable: str = "raise"
    train_crop: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_folder_settings(self.image_size, self.unreadable, self.crop_pct, self.interpolation)
        if self.train_crop is not None and not 0 < self.train_crop[0] <= self.train_crop[1] <= 1:
            raise ValueError(f"train_crop={list(self.train_crop)}; pass two fractions with 0 < least <= largest <= 1")

    @property
    def image_size(self) -> tuple[int, int]:
        """See `ImageCollection.image_size`."""
        return self.height, self.width

    def class_names(self) -> tuple[str, ...] | None:
        """See `ImageCollection.class_names`."""
        return None if self.root is None else self._files("train", "raise").class_names

    def open(self, split: str, count: int | None = None, on_progress: OnProgress | None = None) -> FolderImages:
        """See `ImageCollection.open`."""
        return self._files(split, self.unreadable, on_progress).first(count)

    def open_augmented(self, count: int | None, seed: int) -> RandomCrops | None:
        """See `ImageCollection.open_augmented`."""
        if self.train_crop is None:
            return None
        return RandomCrops(self.open("train", count), self.train_crop, seed)

    def calibration_split(self, reported: str) -> str:
        """See `ImageCollection.calibration_split`."""
        return "train" if self._folder(reported).name == "val" else "val"

    def _folder(self, split: str) -> Path:
        root = Path(self.root or "")
        return root / ("val" if split == "test" and not (root / "test").is_dir() else split)

    def _files(self, split: str, unreadable: str, on_progress: OnProgress | None = None) -> FolderImages:
        if self.root is None:
            raise ValueError("data.root is missing; pass --set data.root=TREE, a folder with train/ and val/ inside")
        if not Path(self.root).is_dir():
            raise FileNotFoundError(f"{self.root} is not a folder; pass a tree with train/ and val/ inside")
        boxes = Path(self.root) / BOXES_FILE
        return FolderImages.open(
            self._folder(split),
            self.image_size,
            unreadable=unreadable,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            boxes_file=boxes if boxes.is_file() else None,
            on_progress=on_progress,
        )


COLLECTIONS: dict[str, type[ImageCollection]] = {"synthetic_signs": SyntheticSigns, "image_folder": ImageFolder}
"""The kinds of images, by name."""


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
