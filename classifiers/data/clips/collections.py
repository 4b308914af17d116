"""Data sets of recorded clips with their splits, as `classifiers.data.collection.ImageCollection` has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import torch

from classifiers.data.clips.label_files import JESTER, SOMETHING_V1, SOMETHING_V2, Layout, find_clips
from classifiers.data.clips.recordings import Fit, Recording
from classifiers.data.clips.source import RandomFrames, RecordedClips
from classifiers.data.clips.video_tree import find_videos
from classifiers.data.collection import OnProgress, check_clips_are_wanted, check_file_settings


@dataclass(frozen=True, kw_only=True)
class RecordedCollection:
    """Recordings on disk; the subclasses say how they are found.

    Attributes:
        root: the data set's folder.
        num_frames: frames F of a clip; the paper takes 8, 12 and 16.
        height: frames are scaled and cropped to this height, in pixels.
        width: likewise.
        crop_pct: fraction of each side that the centre crop keeps; 0.875 is 224 of 256 pixels (Section 5.1).
        interpolation: how frames are scaled, a key of `classifiers.data.decoding.INTERPOLATIONS`.
        unreadable: `"raise"` or `"skip"` recordings that can't be decoded.

    Raises:
        ValueError: if a setting is out of range.
    """

    needs_counts: ClassVar[bool] = False
    root: str | Path | None = None
    num_frames: int = 8
    height: int = 224
    width: int = 224
    crop_pct: float = 0.875
    interpolation: str = "bilinear"
    unreadable: str = "raise"

    def __post_init__(self) -> None:
        check_file_settings(self.image_size, self.unreadable, self.crop_pct, self.interpolation)
        if isinstance(self.num_frames, bool) or not isinstance(self.num_frames, int) or self.num_frames < 1:
            raise ValueError(f"num_frames={self.num_frames!r}; pass 1 or more frames, such as 8")

    @property
    def image_size(self) -> tuple[int, int]:
        """See `ImageCollection.image_size`."""
        return self.height, self.width

    def class_names(self) -> tuple[str, ...] | None:
        """See `ImageCollection.class_names`."""
        return None if self.root is None else self._find("train")[2]

    def open(self, split: str, count: int | None = None, on_progress: OnProgress | None = None) -> RecordedClips:
        """See `ImageCollection.open`."""
        recordings, labels, names = self._find(split)
        fit = Fit(self.image_size, self.crop_pct, self.interpolation)
        source = RecordedClips(tuple(recordings), torch.tensor(labels), names, self.num_frames, fit).first(count)
        return source.without_unreadable(on_progress) if self.unreadable == "skip" else source

    def open_augmented(self, count: int | None, seed: int) -> RandomFrames:
        """See `ImageCollection.open_augmented`: frames at random in their segments."""
        return RandomFrames(self.open("train", count), seed)

    def with_frames(self, num_frames: int | None) -> Self:
        """See `ImageCollection.with_frames`; recordings give clips of any length."""
        return replace(self, num_frames=check_clips_are_wanted(num_frames))

    def calibration_split(self, reported: str) -> str:
        """See `ImageCollection.calibration_split`; the paper, too, finds thresholds on training clips (Section 5.1)."""
        return "val" if reported == "train" else "train"

    def _find(self, split: str) -> tuple[Sequence[Recording], list[int], tuple[str, ...]]:
        raise TypeError("RecordedCollection is a base class; open one of its subclasses instead")

    def _root(self) -> Path:
        if self.root is None:
            raise ValueError("data.root is missing; pass --set data.root=FOLDER, the data set's folder")
        return Path(self.root)


@dataclass(frozen=True, kw_only=True)
class _ListedClips(RecordedCollection):
    """A data set with lists; see `classifiers.data.clips.label_files`."""

    layout: ClassVar[Layout]

    def _find(self, split: str) -> tuple[Sequence[Recording], list[int], tuple[str, ...]]:
        return find_clips(self._root(), split, self.layout)


class SomethingSomethingV1(_ListedClips):
    """Something-Something V1; left and right matter to its classes, so clips must not be flipped."""

    layout = SOMETHING_V1


class SomethingSomethingV2(_ListedClips):
    """Something-Something V2; left and right matter to its classes, so clips must not be flipped."""

    layout = SOMETHING_V2


class Jester(_ListedClips):
    """Jester; left and right matter to its classes, so clips must not be flipped."""

    layout = JESTER


@dataclass(frozen=True, kw_only=True)
class VideoFolder(RecordedCollection):
    """A tree with `train/` and `val/` (and `test/`, else `val/` is reported on), each with one folder per class."""

    def calibration_split(self, reported: str) -> str:
        """See `ImageCollection.calibration_split`."""
        return "train" if self._folder(reported).name == "val" else "val"

    def _find(self, split: str) -> tuple[Sequence[Recording], list[int], tuple[str, ...]]:
        return find_videos(self._folder(split))

    def _folder(self, split: str) -> Path:
        root = self._root()
        return root / ("val" if split == "test" and not (root / "test").is_dir() else split)
