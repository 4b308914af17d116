"""Data sets of recorded clips: their splits, each a kind of `data:` in a config, and the sources that they open."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from classifiers.data.clips.label_files import find_listed
from classifiers.data.clips.recordings import Fit, Recording, VideoFile, random_in_segments, segment_centers
from classifiers.data.collection import Count, CropPct, DecodedCollection, OnProgress, check_clips_are_wanted
from classifiers.data.file_tree import class_files, split_folder, training_classes
from classifiers.data.loading import ChangingFiles, DecodedFiles
from classifiers.settings import UserPath

_NUM_FRAMES = 8  # where nothing says how many


@dataclass(frozen=True, eq=False, kw_only=True)
class RecordedClips(DecodedFiles):
    """Clips of F frames, the centers of equally long segments.

    Attributes:
        recordings: where the frames are.
        num_frames: frames F of a clip.
    """

    recordings: Sequence[Recording]
    num_frames: int
    _lengths: dict[Recording, int] = field(default_factory=dict)

    def decode(self, index: int) -> np.ndarray:
        return self.decode_frames(index, segment_centers(self.length(index), self.num_frames))

    def decode_frames(self, index: int, frames: np.ndarray) -> np.ndarray:
        """Chosen frames of a recording, (F,) int64 in [0, length), as (F, H, W, 3) uint8; see `decode`."""
        fit = Fit(self.image_size, self.crop_pct, self.interpolation)
        return self.recordings[index].read(frames.tolist(), fit)

    def length(self, index: int) -> int:
        """Frames of a recording, counted once; see `decode`."""
        recording = self.recordings[index]
        if recording not in self._lengths:
            self._lengths[recording] = recording.length()
        return self._lengths[recording]

    @property
    def num_short(self) -> int:
        known = (i for i, one in enumerate(self.recordings) if one in self._lengths or not isinstance(one, VideoFile))
        return sum(self.length(index) < self.num_frames for index in known)

    def only(self, kept: Tensor) -> Self:
        recordings = [self.recordings[index] for index in kept.tolist()]
        return replace(self, recordings=recordings, labels=self.labels[kept])


class RandomFrames(ChangingFiles[RecordedClips]):
    """Recordings of which every epoch sees other frames, one at random of each of F segments."""

    def draw(self, index: int, rng: np.random.Generator) -> np.ndarray:
        frames = random_in_segments(self.source.length(index), self.source.num_frames, rng)
        return self.source.decode_frames(index, frames)


class RecordedCollection(DecodedCollection):
    """Recordings on disk; the subclasses say how they are found.

    Attributes:
        root: the data set's folder.
        num_frames: frames F of a clip; the paper takes 8, 12 and 16. None takes as many as the encoder does.
        crop_pct: fraction of each side that the center crop keeps; 0.875 is 224 of 256 pixels (Section 5.1).
    """

    root: UserPath | None = None
    num_frames: Count | None = None
    crop_pct: CropPct = 0.875

    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes of the training clips."""
        return None if self.root is None else self._find("train")[2]

    def open(self, split: str, on_progress: OnProgress | None = None) -> RecordedClips:
        """Finds the clips of a split."""
        recordings, labels, names = self._find(split)
        source = RecordedClips(
            recordings=recordings,
            labels=torch.tensor(labels),
            class_names=names,
            num_frames=self.num_frames or _NUM_FRAMES,
            **self.fit,
        ).first(self.counts[split])
        return source.without_unreadable(on_progress) if self.unreadable == "skip" else source

    def check(self, split: str) -> None:
        """Finds the recordings of a split."""
        self._find(split)

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
        """`"train"`, as in the paper (Section 5.1), unless results are reported on it."""
        return "val" if reported == "train" else "train"

    @abstractmethod
    def _find(self, split: str) -> tuple[Sequence[Recording], list[int], tuple[str, ...]]:
        """The recordings of a split, their labels, and the names of the classes."""

    def _root(self) -> Path:
        if self.root is None:
            raise ValueError("data.root is missing; pass --set data.root=FOLDER, the data set's folder")
        return self.root


class _ListedClips(RecordedCollection):
    """A data set with lists; see `classifiers.data.clips.label_files.find_listed`.

    Left and right matter to the classes of all of them, so clips must not be flipped.
    """

    prefix: ClassVar[str]
    folders: ClassVar[tuple[str, ...]]

    def _find(self, split: str) -> tuple[Sequence[Recording], list[int], tuple[str, ...]]:
        return find_listed(self._root(), split, self.prefix, self.folders)


class SomethingSomethingV1(_ListedClips):
    """Something-Something V1."""

    kind: Literal["something_something_v1"] = "something_something_v1"
    prefix = "something-something-v1"
    folders = ("20bn-something-something-v1",)


class SomethingSomethingV2(_ListedClips):
    """Something-Something V2."""

    kind: Literal["something_something_v2"] = "something_something_v2"
    prefix = "something-something-v2"
    folders = ("20bn-something-something-v2-frames", "20bn-something-something-v2")


class Jester(_ListedClips):
    """Jester."""

    kind: Literal["jester"] = "jester"
    prefix = "jester-v1"
    folders = ("20bn-jester-v1",)


class VideoFolder(RecordedCollection):
    """A tree with `train/` and `val/` (and `test/`, else results are on `val/`), each with one folder per class."""

    kind: Literal["video_folder"] = "video_folder"

    def calibration_split(self, reported: str) -> str:
        """`"train"` if results are reported on `val/`, else `"val"`."""
        return "train" if split_folder(self._root(), reported).name == "val" else "val"

    def _find(self, split: str) -> tuple[Sequence[Recording], list[int], tuple[str, ...]]:
        root = self._root()
        files, labels, names = class_files(split_folder(root, split), "video", training_classes(root, split))
        return [VideoFile(Path(file)) for file in files], labels, names
