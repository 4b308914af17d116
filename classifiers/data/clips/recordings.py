"""One recording: frames in order of time, in a folder of images or in a video file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

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
    """Frames in order of time."""

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

    def length(self) -> int:
        """See `Recording.length`; decodes the whole file."""
        return count_frames(self.path)

    def read(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        """See `Recording.read`."""
        images = read_frames(self.path, indices)
        return np.stack([fit_image(image, fit.size, fit.crop_pct, fit.interpolation) for image in images])
