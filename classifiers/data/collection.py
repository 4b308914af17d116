"""Collections of images with their splits, before they are opened, and what all kinds of image files share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from torch import Tensor

from classifiers.data.augmentation import RandomCrops
from classifiers.data.decoding import INTERPOLATIONS
from classifiers.data.folder import FolderImages
from classifiers.data.source import ImageSource
from classifiers.settings import Settings, one_of

SPLITS = ("train", "val", "test")
"""Images to train on, to choose by, and to report on."""

UNREADABLE = ("raise", "skip")
"""What to do with a file that can't be decoded: stop and name it, or leave it out and count it."""

OnProgress = Callable[[int, int], None]
"""Called with (images read or drawn, images in all)."""

Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=8)]
CropPct = Annotated[float, Field(gt=0, le=1)]


class ImageCollection(Settings, ABC):
    """Images or clips with their splits, not opened yet.

    A subclass in `classifiers.data.registry.COLLECTIONS` is what `data:` in a config may be: its fields are the
    settings. It overrides `kind` by a `Literal`, its name there.

    Attributes:
        kind: a key of `COLLECTIONS`.
        num_train: at most this many images to train on; None takes all.
        num_val: at most this many images for validation and confidence thresholds; None takes all.
        num_test: at most this many images for the reported results; None takes all.
    """

    kind: str
    num_train: Count | None = None
    num_val: Count | None = None
    num_test: Count | None = None

    @property
    def counts(self) -> dict[str, int | None]:
        """How many images each split holds at most; None: all."""
        return {"train": self.num_train, "val": self.num_val, "test": self.num_test}

    @property
    @abstractmethod
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""

    @abstractmethod
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, by label; None if nothing says yet where the images are."""

    @abstractmethod
    def open(self, split: str, on_progress: OnProgress | None = None) -> ImageSource:
        """Opens a split.

        Args:
            split: one of `SPLITS`.
            on_progress: see `OnProgress`.

        Returns:
            The images.

        Raises:
            ValueError: if the images are not what they should be.
            FileNotFoundError: if there are none.
        """

    def check(self, split: str) -> Tensor | None:
        """Raises what `open` would, as far as that can be known without reading images; by default nothing.

        Returns:
            The labels (L,) of the split's images, if they are known without reading images.
        """
        return None

    def check_groups(self) -> None:
        """Raises a `ValueError` if images that belong together are in several splits; by default nothing is known."""

    def open_augmented(self, seed: int) -> ImageSource | None:
        """The training split with augmentation of the collection's own, drawn from a seed; None if it has none."""
        return None

    def calibration_split(self, reported: str) -> str:
        """The split for confidence thresholds when results are reported on `reported`: never the same images."""
        return "train" if reported == "val" else "val"

    def with_frames(self, num_frames: int | None) -> Self:
        """The same for networks that take clips of so many frames; None: images.

        Raises:
            ValueError: if there are images where clips are wanted, or the other way round, or clips of another length.
        """
        if num_frames is not None:
            raise ValueError(
                f"the data are images, the encoder takes clips of {num_frames} frames; pass an encoder of images, such "
                "as resnet50, or data of clips"
            )
        return self


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


class DecodedCollection(ImageCollection):
    """Files that are scaled to cover a size, then cropped.

    Attributes:
        height: images are scaled and cropped to this height, in pixels.
        width: images are scaled and cropped to this width, in pixels.
        crop_pct: fraction of each side that the center crop keeps. In a config, `weights` takes what
            `initialization.weights` were trained with.
        interpolation: how files are scaled, a key of `classifiers.data.decoding.INTERPOLATIONS`. In a config, `weights`
            takes what `initialization.weights` were trained with, and is the default where there are some.
        unreadable: `"raise"`: a file that can't be decoded raises when it is fetched; `"skip"`: all files are decoded
            when they are opened, and those that can't be are left out and counted.
    """

    height: Side = 224
    width: Side = 224
    crop_pct: CropPct = 1.0
    interpolation: Annotated[str, one_of(INTERPOLATIONS)] = "bilinear"
    unreadable: Annotated[str, one_of(UNREADABLE)] = "raise"

    @property
    def image_size(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def fit(self) -> dict[str, Any]:
        """How files are scaled and cropped, as arguments of `classifiers.data.loading.DecodedFiles`."""
        return {"image_size": self.image_size, "crop_pct": self.crop_pct, "interpolation": self.interpolation}


class FileCollection(DecodedCollection):
    """Image files.

    Attributes:
        train_crop: training sees random crops like torchvision's RandomResizedCrop, whose area is between these
            fractions of the image's: new ones in every epoch of stages I and III, one for each image in stage II. None:
            the same crops as the evaluation.
    """

    train_crop: tuple[CropPct, CropPct] | None = None

    @model_validator(mode="after")
    def _check_train_crop(self) -> Self:
        if self.train_crop is not None and self.train_crop[0] > self.train_crop[1]:
            raise ValueError(f"train_crop={list(self.train_crop)}; pass the smaller fraction first")
        return self

    @abstractmethod
    def files(self, split: str) -> FolderImages:
        """All files of a split; see `ImageCollection.open` for the errors."""

    def open(self, split: str, on_progress: OnProgress | None = None) -> FolderImages:
        """Opens a split; what `unreadable` says of its files holds."""
        files = self.files(split)
        if self.unreadable == "skip":
            files = files.without_unreadable(on_progress)
        return files.first(self.counts[split])

    def check(self, split: str) -> Tensor:
        """Finds the files of a split; returns their labels (L,)."""
        return self.files(split).first(self.counts[split]).labels

    def open_augmented(self, seed: int) -> RandomCrops | None:
        """The training split in random crops; None without `train_crop`."""
        return None if self.train_crop is None else RandomCrops(self.open("train"), self.train_crop, seed)
