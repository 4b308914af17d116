"""Recordings as a source of clips: equally many frames of each, decoded when they are fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from classifiers.data.clips.frame_sampling import random_in_segments, segment_centres
from classifiers.data.clips.recordings import Fit, Recording
from classifiers.data.source import Batch, SourceDefaults, SourceView
from classifiers.data.threads import map_threads, readable_indices


@dataclass(frozen=True)
class RecordedClips(SourceDefaults):
    """Clips of F frames, the centres of equally long segments; by one thread for each core.

    Attributes:
        recordings: where the frames are.
        labels: (N,) int64.
        class_names: names of the K classes, by label.
        clip_length: frames F of a clip.
        fit: how frames are scaled and cropped.
        num_skipped: unreadable recordings that were left out.
    """

    recordings: tuple[Recording, ...]
    labels: Tensor
    class_names: tuple[str, ...]
    clip_length: int
    fit: Fit
    num_skipped: int = 0
    _lengths: dict[Recording, int] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.clip_length < 1:
            raise ValueError(f"num_frames={self.clip_length}; pass 1 or more frames, such as 8")

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.fit.size

    @property
    def num_frames(self) -> int:
        """See `ImageSource.num_frames`."""
        return self.clip_length

    @property
    def decodes_files(self) -> bool:
        """Yes."""
        return True

    def __len__(self) -> int:
        return len(self.recordings)

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`.

        Raises:
            UnreadableImageError: if a frame is missing or can't be decoded.
        """
        return self.batch(list(map_threads(self.decode, indices.tolist())), indices)

    def batch(self, clips: Sequence[np.ndarray], indices: Tensor) -> Batch:
        """A batch of decoded clips, (F, H, W, 3) uint8 each, with the labels of their (B,) indices."""
        pixels = torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).contiguous()
        return Batch(pixels, self.labels[indices], torch.zeros(len(clips), 4, dtype=torch.int64))

    def decode(self, index: int) -> np.ndarray:
        """The clip of a recording, (F, H, W, 3) uint8.

        Raises:
            UnreadableImageError: if a frame is missing or can't be decoded.
        """
        return self.decode_frames(index, segment_centres(self.length(index), self.clip_length))

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
        """See `ImageSource.num_short`; `count_short` counts the frames of all, which decodes videos."""
        known = (i for i, each in enumerate(self.recordings) if each in self._lengths or not each.counts_by_decoding)
        return sum(self.length(index) < self.clip_length for index in known)

    def count_short(self, on_progress: Callable[[int, int], None] | None = None) -> int:
        """How many recordings have fewer than F frames, of which some are repeated; counts the frames of all.

        Args:
            on_progress: called with (recordings counted, recordings in all).
        """
        short = 0
        for index, length in enumerate(map_threads(self.length, range(len(self)))):
            short += length < self.clip_length
            if on_progress is not None:
                on_progress(index + 1, len(self))
        return short

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
        return replace(self._only(good), num_skipped=len(self) - len(good))

    def _only(self, kept: list[int]) -> RecordedClips:
        return replace(self, recordings=tuple(self.recordings[i] for i in kept), labels=self.labels[kept])


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
        """The same recordings with the frames of another epoch."""
        return RandomFrames(self.source, self.seed, epoch)

    def fetch(self, indices: Tensor) -> Batch:
        """See `RecordedClips.fetch`."""
        return self.source.batch(list(map_threads(self.decode, indices.tolist())), indices)

    def decode(self, index: int) -> np.ndarray:
        """The clip of a recording in this epoch, (F, H, W, 3) uint8; see `RecordedClips.decode`."""
        rng = np.random.default_rng([self.seed, self.epoch, index])
        frames = random_in_segments(self.source.length(index), self.source.clip_length, rng)
        return self.source.decode_frames(index, frames)
