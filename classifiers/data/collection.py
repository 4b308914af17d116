"""Images with their splits, not opened yet: what every kind answers, and what all kinds of image files share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from classifiers.checks import check_known
from classifiers.data.decoding import INTERPOLATIONS
from classifiers.data.folder import FolderImages
from classifiers.data.random_crops import RandomCrops
from classifiers.data.source import ImageSource

SPLITS = ("train", "val", "test")
"""Images to train on, to choose by, and to report on."""

UNREADABLE = ("raise", "skip")
"""What to do with a file that can't be decoded: stop and name it, or leave it out and count it."""

OnProgress = Callable[[int, int], None]
"""Called with (images read or drawn, images in all)."""


def check_file_settings(image_size: tuple[int, int], unreadable: str, crop_pct: float, interpolation: str) -> None:
    """Checks how files are to be decoded.

    Args:
        image_size: (H, W) in pixels, at least 8.
        unreadable: one of `UNREADABLE`.
        crop_pct: fraction of each side that the centre crop keeps.
        interpolation: a key of `classifiers.data.decoding.INTERPOLATIONS`.

    Raises:
        ValueError: if one of them is out of range.
    """
    check_known("unreadable", unreadable, UNREADABLE)
    check_known("interpolation", interpolation, INTERPOLATIONS)
    if min(image_size) < 8 or not 0 < crop_pct <= 1:
        raise ValueError(
            f"height={image_size[0]}, width={image_size[1]}, crop_pct={crop_pct}; pass at least 8 pixels and a "
            "fraction in (0, 1]"
        )


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

    def with_frames(self, num_frames: int | None) -> Self:
        """The same for networks that take clips of so many frames; None: images.

        Raises:
            ValueError: if there are images where clips are wanted, or the other way round, or clips of another length.
        """
        ...


def check_images_are_wanted(num_frames: int | None) -> None:
    """Checks, for a collection of images, that networks take images.

    Args:
        num_frames: frames of the clips that they take; None: images.

    Raises:
        ValueError: if they take clips.
    """
    if num_frames is not None:
        raise ValueError(
            f"the data are images, the encoder takes clips of {num_frames} frames; pass an encoder of images, such as "
            "resnet50, or data of clips"
        )


def check_clips_are_wanted(num_frames: int | None) -> int:
    """Checks, for a collection of clips, that networks take clips; returns of how many frames.

    Args:
        num_frames: frames of the clips that they take; None: images.

    Raises:
        ValueError: if they take images.
    """
    if num_frames is None:
        raise ValueError(
            "the data are clips, the encoder takes images; pass an encoder of clips, such as tsm8:resnet50, or data of "
            "images"
        )
    return num_frames


@dataclass(frozen=True, kw_only=True)
class FileCollection(ABC):
    """Image files: how they are scaled, cropped and augmented.

    Attributes:
        height: images are scaled and cropped to this height, in pixels.
        width: likewise.
        crop_pct: fraction of each side that the centre crop keeps.
        interpolation: how files are scaled, a key of `classifiers.data.decoding.INTERPOLATIONS`.
        unreadable: `"raise"`: a file that can't be decoded raises when it is fetched; `"skip"`: all files are decoded
            when they are opened, and those that can't be are left out and counted.
        train_crop: training sees random crops that keep between these fractions of the area; None: no random crops.

    Raises:
        ValueError: if a setting is out of range.
    """

    needs_counts: ClassVar[bool] = False
    height: int = 224
    width: int = 224
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    unreadable: str = "raise"
    train_crop: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_file_settings(self.image_size, self.unreadable, self.crop_pct, self.interpolation)
        if self.train_crop is not None and not 0 < self.train_crop[0] <= self.train_crop[1] <= 1:
            raise ValueError(f"train_crop={list(self.train_crop)}; pass two fractions with 0 < least <= largest <= 1")

    @property
    def image_size(self) -> tuple[int, int]:
        """See `ImageCollection.image_size`."""
        return self.height, self.width

    def with_frames(self, num_frames: int | None) -> Self:
        """See `ImageCollection.with_frames`."""
        check_images_are_wanted(num_frames)
        return self

    @abstractmethod
    def files(self, split: str) -> FolderImages:
        """All files of a split; see `ImageCollection.open` for the errors."""

    def open(self, split: str, count: int | None = None, on_progress: OnProgress | None = None) -> FolderImages:
        """See `ImageCollection.open`."""
        files = self.files(split)
        if self.unreadable == "skip":
            files = files.without_unreadable(on_progress)
        return files.first(count)

    def open_augmented(self, count: int | None, seed: int) -> RandomCrops | None:
        """See `ImageCollection.open_augmented`."""
        if self.train_crop is None:
            return None
        return RandomCrops(self.open("train", count), self.train_crop, seed)
