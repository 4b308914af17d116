"""Data sets of recorded clips: their splits, each a kind of `data:` in a config, and the sources that they open."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from classifiers.data.clips.label_files import JESTER, SOMETHING_V1, SOMETHING_V2, Layout, find_listed
from classifiers.data.clips.recordings import Fit, Recording, VideoFile, random_in_segments, segment_centers
from classifiers.data.collection import Count, CropPct, DecodedCollection, OnProgress, check_clips_are_wanted
from classifiers.data.file_tree import class_files, split_folder, training_classes
from classifiers.data.loading import map_threads, readable_indices
from classifiers.data.source import Batch, ImageSource, SourceView, batch_without_boxes
from classifiers.settings import UserPath

_NUM_FRAMES = 8  # where nothing says how many


class RecordedClips(ImageSource):
    """Clips of F frames, the centers of equally long segments; decoded by one thread for each core.

    Args:
        recordings: where the frames are.
        labels: (N,) int64.
        class_names: names of the K classes, by label.
        num_frames: frames F of a clip.
        fit: how frames are scaled and cropped.
        num_skipped: unreadable recordings that were left out.
    """

    decodes_files = True
    num_frames: int

    def __init__(
        self,
        recordings: Sequence[Recording],
        labels: Tensor,
        class_names: tuple[str, ...],
        num_frames: int,
        fit: Fit,
        num_skipped: int = 0,
    ) -> None:
        self.recordings, self.labels, self.class_names = recordings, labels, class_names
        self.num_frames, self.fit, self.image_size, self.num_skipped = num_frames, fit, fit.size, num_skipped
        self._lengths: dict[Recording, int] = {}

    def __len__(self) -> int:
        return len(self.recordings)

    def fetch(self, indices: Tensor) -> Batch:
        clips = np.stack(list(map_threads(self.decode, indices.tolist())))
        return batch_without_boxes(clips, self.labels[indices])

    def decode(self, index: int) -> np.ndarray:
        """The clip of a recording, (F, H, W, 3) uint8.

        Raises:
            UnreadableImageError: if a frame is missing or can't be decoded.
        """
        return self.decode_frames(index, segment_centers(self.length(index), self.num_frames))

    def decode_frames(self, index: int, frames: np.ndarray) -> np.ndarray:
        """Chosen frames of a recording, (F,) int64 in [0, length), as (F, H, W, 3) uint8; see `decode`."""
        return self.recordings[index].read(frames.tolist(), self.fit)

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

    def first(self, count: int | None) -> RecordedClips:
        """At most `count` of the recordings, spread evenly over the list; all of them if None."""
        if count is None or count >= len(self):
            return self
        return self._only(torch.linspace(0, len(self) - 1, count).round().long().tolist())

    def without_unreadable(self, on_progress: Callable[[int, int], None] | None = None) -> RecordedClips:
        """The recordings whose clips can be decoded, tried one by one; the others are counted.

        Args:
            on_progress: called with (recordings tried, recordings in all).

        Raises:
            ValueError: if none is left.
        """
        good = readable_indices(self.decode, len(self), on_progress)
        if not good:
            raise ValueError(f"none of the {len(self)} clips can be decoded; pass unreadable='raise' to see why")
        return self._only(good, num_skipped=len(self) - len(good))

    def _only(self, kept: list[int], num_skipped: int = 0) -> RecordedClips:
        recordings = [self.recordings[index] for index in kept]
        return RecordedClips(recordings, self.labels[kept], self.class_names, self.num_frames, self.fit, num_skipped)


class RandomFrames(SourceView[RecordedClips]):
    """Recordings of which every epoch sees other frames, one at random of each of F segments.

    Args:
        source: the recordings.
        seed: of the frames; those of a clip depend on seed, epoch and index alone.
        epoch: which epoch this is.
    """

    def __init__(self, source: RecordedClips, seed: int = 0, epoch: int = 0) -> None:
        super().__init__(source)
        self.seed, self.epoch = seed, epoch

    def for_epoch(self, epoch: int) -> RandomFrames:
        return RandomFrames(self.source, self.seed, epoch)

    def fetch(self, indices: Tensor) -> Batch:
        clips = np.stack(list(map_threads(self.decode, indices.tolist())))
        return batch_without_boxes(clips, self.source.labels[indices])

    def decode(self, index: int) -> np.ndarray:
        """The clip of a recording in this epoch, (F, H, W, 3) uint8; see `RecordedClips.decode`."""
        rng = np.random.default_rng([self.seed, self.epoch, index])
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
        fit = Fit(self.image_size, self.crop_pct, self.interpolation)
        source = RecordedClips(tuple(recordings), torch.tensor(labels), names, self.num_frames or _NUM_FRAMES, fit)
        source = source.first(self.counts[split])
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
    """A tree with `train/` and `val/` (and `test/`, else results are on `val/`), each with one folder per class."""

    kind: Literal["video_folder"] = "video_folder"

    def calibration_split(self, reported: str) -> str:
        """`"train"` if results are reported on `val/`, else `"val"`."""
        return "train" if split_folder(self._root(), reported).name == "val" else "val"

    def _find(self, split: str) -> tuple[Sequence[Recording], list[int], tuple[str, ...]]:
        root = self._root()
        files, labels, names = class_files(split_folder(root, split), "video", training_classes(root, split))
        return [VideoFile(Path(file)) for file in files], labels, names
