"""Data sets of recorded clips with their splits, each a kind of `data:` in a config."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch

from classifiers.data.clips.label_files import JESTER, SOMETHING_V1, SOMETHING_V2, Layout, find_listed
from classifiers.data.clips.recordings import Fit, Recording, VideoFile
from classifiers.data.clips.source import RandomFrames, RecordedClips
from classifiers.data.collection import (
    UNREADABLE,
    Count,
    CropPct,
    ImageCollection,
    OnProgress,
    Side,
    check_clips_are_wanted,
)
from classifiers.data.decoding import INTERPOLATIONS
from classifiers.data.file_tree import class_files
from classifiers.settings import UserPath, one_of

_NUM_FRAMES = 8  # where nothing says how many


class RecordedCollection(ImageCollection):
    """Recordings on disk; the subclasses say how they are found.

    Attributes:
        root: the data set's folder.
        num_frames: frames F of a clip; the paper takes 8, 12 and 16. None takes as many as the encoder does.
        height: frames are scaled and cropped to this height, in pixels.
        width: frames are scaled and cropped to this width, in pixels.
        crop_pct: fraction of each side that the centre crop keeps; 0.875 is 224 of 256 pixels (Section 5.1).
        interpolation: how frames are scaled, a key of `classifiers.data.decoding.INTERPOLATIONS`.
        unreadable: `"raise"` or `"skip"` recordings that can't be decoded.
    """

    root: UserPath | None = None
    num_frames: Count | None = None
    height: Side = 224
    width: Side = 224
    crop_pct: CropPct = 0.875
    interpolation: Annotated[str, one_of(INTERPOLATIONS)] = "bilinear"
    unreadable: Annotated[str, one_of(UNREADABLE)] = "raise"

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.height, self.width

    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes of the training clips."""
        return None if self.root is None else self._find("train")[2]

    def open(self, split: str, on_progress: OnProgress | None = None) -> RecordedClips:
        """Finds the clips of a split."""
        recordings, labels, names = self._find(split)
        fit = Fit(self.image_size, self.crop_pct, self.interpolation)
        source = RecordedClips(tuple(recordings), torch.tensor(labels), names, self.num_frames or _NUM_FRAMES, fit)
        source = source.first(self.counts[split])
        return source.without_unreadable(on_progress) if self.unreadable == "skip" else source

    def open_augmented(self, seed: int) -> RandomFrames:
        """The training clips with frames at random in their segments."""
        return RandomFrames(self.open("train"), seed)

    def with_frames(self, num_frames: int | None) -> Self:
        """The same clips with as many frames; recordings give clips of any length."""
        wanted = check_clips_are_wanted(num_frames)
        if self.num_frames not in (None, wanted):
            raise ValueError(f"num_frames={self.num_frames}, the encoder takes {wanted}; leave num_frames out")
        return self.replace(num_frames=wanted)

    def calibration_split(self, reported: str) -> str:
        """`"train"`, as in the paper (Section 5.1), unless it is reported on."""
        return "val" if reported == "train" else "train"

    @abstractmethod
    def _find(self, split: str) -> tuple[Sequence[Recording], list[int], tuple[str, ...]]:
        """The recordings of a split, their labels, and the names of the classes."""

    def _root(self) -> Path:
        if self.root is None:
            raise ValueError("data.root is missing; pass --set data.root=FOLDER, the data set's folder")
        return self.root


class _ListedClips(RecordedCollection):
    """A data set with lists; see `classifiers.data.clips.label_files`."""

    layout: ClassVar[Layout]

    def _find(self, split: str) -> tuple[Sequence[Recording], list[int], tuple[str, ...]]:
        return find_listed(self._root(), split, self.layout)


class SomethingSomethingV1(_ListedClips):
    """Something-Something V1; left and right matter to its classes, so clips must not be flipped."""

    kind: Literal["something_something_v1"] = "something_something_v1"
    layout = SOMETHING_V1


class SomethingSomethingV2(_ListedClips):
    """Something-Something V2; left and right matter to its classes, so clips must not be flipped."""

    kind: Literal["something_something_v2"] = "something_something_v2"
    layout = SOMETHING_V2


class Jester(_ListedClips):
    """Jester; left and right matter to its classes, so clips must not be flipped."""

    kind: Literal["jester"] = "jester"
    layout = JESTER


class VideoFolder(RecordedCollection):
    """A tree with `train/` and `val/` (and `test/`, else `val/` is reported on), each with one folder per class."""

    kind: Literal["video_folder"] = "video_folder"

    def calibration_split(self, reported: str) -> str:
        """`"train"` where `val/` is reported on, else `"val"`."""
        return "train" if self._folder(reported).name == "val" else "val"

    def _find(self, split: str) -> tuple[Sequence[Recording], list[int], tuple[str, ...]]:
        files, labels, names = class_files(self._folder(split), "video")
        return [VideoFile(Path(file)) for file in files], labels, names

    def _folder(self, split: str) -> Path:
        root = self._root()
        return root / ("val" if split == "test" and not (root / "test").is_dir() else split)
