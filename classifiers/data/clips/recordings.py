"""One recording: frames in order of time, in a folder of images or in a video file.

Exported recognisers carry a copy of this file, and of those that it imports.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from classifiers.data.clips.frame_sampling import segment_centres
from classifiers.data.clips.videos import EXTENSIONS as VIDEO_EXTENSIONS
from classifiers.data.clips.videos import count_frames, read_frames
from classifiers.data.decoding import EXTENSIONS, UnreadableImageError, decode_image, fit_image


@dataclass(frozen=True)
class Fit:
    """How frames are scaled to cover a size, then cropped; see `classifiers.data.decoding.fit_image`.

    Attributes:
        size: (H, W) in pixels.
        crop_pct: fraction of each side that the centre crop keeps; 0.875 is 224 of 256 pixels.
        interpolation: a key of `classifiers.data.decoding.INTERPOLATIONS`.
    """

    size: tuple[int, int]
    crop_pct: float = 1.0
    interpolation: str = "bilinear"


Choose = Callable[[int], np.ndarray]
"""`choose(length)`: (F,) int64 in [0, length), the frames to read of so many."""


class Recording(Protocol):
    """Frames in order of time.

    Attributes:
        counts_by_decoding: whether `length` decodes everything.
    """

    counts_by_decoding: ClassVar[bool]

    @property
    def path(self) -> Path:
        """The folder or file."""
        ...

    def length(self) -> int:
        """Number of frames, 1 or more.

        Raises:
            UnreadableImageError: if there are none, or the file can't be decoded.
        """
        ...

    def read(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        """Some frames.

        Args:
            indices: which ones, from 0; some may be repeated.
            fit: their size.

        Returns:
            (F, H, W, 3) uint8, RGB.

        Raises:
            UnreadableImageError: if a frame is missing or can't be decoded.
        """
        ...


@dataclass(frozen=True)
class FrameFolder:
    """A folder of numbered images, the first of which is number 1.

    Attributes:
        path: the folder.
        template: name of a frame by its number, such as `"{:05d}.jpg"`.
        listed_length: number of frames as a list says; None counts the files.
    """

    path: Path
    template: str
    listed_length: int | None = None
    counts_by_decoding: ClassVar[bool] = False

    def length(self) -> int:
        """See `Recording.length`."""
        if self.listed_length is not None:
            return self.listed_length
        try:
            names = os.listdir(self.path)
        except OSError as error:
            raise UnreadableImageError(
                f"{self.path} can't be read ({error.strerror}); remove it from the list"
            ) from error
        count = sum(os.path.splitext(name)[1].lower() in EXTENSIONS for name in names)
        if count == 0:
            raise UnreadableImageError(
                f"{self.path} holds no frame {self.template.format(1)}; extract the frames again"
            )
        return count

    def read(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        """See `Recording.read`."""
        frames = {}
        for index in sorted(set(indices)):
            path = self.path / self.template.format(index + 1)
            if not path.exists():
                raise UnreadableImageError(
                    f"{path} is missing, frame {index + 1} of {self.length()}; extract the frames again, or correct "
                    "the list"
                )
            frames[index] = decode_image(path, fit.size, fit.crop_pct, fit.interpolation)
        return np.stack([frames[index] for index in indices])


@dataclass(frozen=True)
class VideoFile:
    """A video file.

    Attributes:
        path: the file.
    """

    path: Path

    counts_by_decoding: ClassVar[bool] = True

    def length(self) -> int:
        """See `Recording.length`; decodes the whole file."""
        return count_frames(self.path)

    def read(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        """See `Recording.read`."""
        images = read_frames(self.path, indices)
        return np.stack([fit_image(image, fit.size, fit.crop_pct, fit.interpolation) for image in images])


@dataclass(frozen=True)
class FrameFiles:
    """A folder whose images are the frames, in the order of their names; numbers in names count as numbers.

    Attributes:
        path: the folder.
    """

    path: Path
    counts_by_decoding: ClassVar[bool] = False

    def length(self) -> int:
        """See `Recording.length`."""
        return len(self._files())

    def read(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        """See `Recording.read`."""
        files = self._files()
        frames = {
            index: decode_image(files[index], fit.size, fit.crop_pct, fit.interpolation) for index in set(indices)
        }
        return np.stack([frames[index] for index in indices])

    def _files(self) -> list[Path]:
        names = [name for name in os.listdir(self.path) if os.path.splitext(name)[1].lower() in EXTENSIONS]
        if not names:
            raise UnreadableImageError(f"{self.path} holds no frame; pass a folder of numbered images, or a video")
        return [self.path / name for name in sorted(names, key=_natural)]


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]


class Clip(NamedTuple):
    """Some frames of a recording.

    Attributes:
        frames: (F, H, W, 3) uint8, RGB.
        length: how many frames the recording has; if there are fewer than F, some were repeated.
    """

    frames: np.ndarray
    length: int


def read_clip(path: Path, num_frames: int, fit: Fit) -> Clip:
    """Reads a clip from a file or folder that somebody names: the centres of equally long segments.

    Args:
        path: a video, or a folder of frames.
        num_frames: frames F of the clip.
        fit: their size.

    Returns:
        The clip.

    Raises:
        UnreadableImageError: if it is an image, or can't be decoded.
    """
    if path.is_file() and path.suffix.lower() in EXTENSIONS:
        raise UnreadableImageError(
            f"{path} is an image, the networks take clips of {num_frames} frames; pass a video or a folder of frames"
        )
    recording: Recording = FrameFiles(path) if path.is_dir() else VideoFile(path)
    length = recording.length()
    return Clip(recording.read(segment_centres(length, num_frames).tolist(), fit), length)


def find_clips(folder: Path) -> list[Path]:
    """The recordings of a folder at any depth, in order: video files, and folders that hold images."""
    found: list[Path] = []
    for place, _, names in os.walk(folder):
        endings = {name: os.path.splitext(name)[1].lower() for name in names}
        if EXTENSIONS & set(endings.values()):
            found.append(Path(place))
        found += [Path(place) / name for name, ending in endings.items() if ending in VIDEO_EXTENSIONS]
    return sorted(found)
