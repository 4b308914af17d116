"""Recordings as a source of clips: equally many frames of each, decoded when they are fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from classifiers.data.clips.recordings import Fit, Recording, VideoFile, random_in_segments, segment_centres
from classifiers.data.loading import map_threads, readable_indices
from classifiers.data.source import Batch, ImageSource, SourceView, batch_without_boxes


class RecordedClips(ImageSource):
    """Clips of F frames, the centres of equally long segments; decoded by one thread for each core.

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
        return self.decode_frames(index, segment_centres(self.length(index), self.num_frames))

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
