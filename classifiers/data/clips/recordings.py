"""One recording: frames in order of time, in a folder of images or in a video file, and which of them make a clip.

Videos are decoded by FFmpeg's program: the system's, or that of the wheel imageio-ffmpeg (`pip install
'gfnet-gym[clips]'`), which needs no shared libraries. Only local files are opened, whatever a file refers to. Exported
recognizers carry a copy of this file.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from classifiers.data.decoding import EXTENSIONS, UnreadableImageError, decode_image, fit_image

VIDEO_EXTENSIONS = frozenset({".webm", ".mp4", ".m4v", ".mov", ".mkv", ".avi", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv"})
"""File endings, in lower case, that count as videos."""

_NO_VIDEO = "matches no streams"  # what FFmpeg says of files with sound alone
_PPM_HEADER = re.compile(rb"P6\s(\d+)\s(\d+)\s255\s")
_IN_BRACKETS = re.compile(r"^(\[[^]]*\] )+")  # which part of FFmpeg speaks, at the start of a line


@dataclass(frozen=True)
class Fit:
    """How frames are scaled to cover a size, then cropped; see `classifiers.data.decoding.fit_image`.

    Attributes:
        size: (H, W) in pixels.
        crop_pct: fraction of each side that the center crop keeps; 0.875 is 224 of 256 pixels.
        interpolation: a key of `classifiers.data.decoding.INTERPOLATIONS`.
    """

    size: tuple[int, int]
    crop_pct: float = 1.0
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class FrameFolder:
    """A folder whose images are the frames, in the order of their names; numbers in names count as numbers.

    Attributes:
        path: the folder.
        listed_length: number of frames as a list says; None counts the files.
    """

    path: Path
    listed_length: int | None = None

    def length(self) -> int:
        """Number of frames, 1 or more.

        Raises:
            UnreadableImageError: if there are none.
        """
        return self.listed_length or len(self._files())

    def read(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        """Some frames, (F, H, W, 3) uint8, RGB.

        Args:
            indices: which ones, from 0; some may be repeated.
            fit: their size.

        Raises:
            UnreadableImageError: if a frame is missing or can't be decoded.
        """
        files = self._files()
        if max(indices) >= len(files):
            raise UnreadableImageError(
                f"{self.path} holds {len(files)} frames, the list says {self.length()}; extract the frames again, or "
                "correct the list"
            )
        frames = {i: decode_image(files[i], fit.size, fit.crop_pct, fit.interpolation) for i in set(indices)}
        return np.stack([frames[index] for index in indices])

    def _files(self) -> list[Path]:
        names = [name for name in os.listdir(self.path) if os.path.splitext(name)[1].lower() in EXTENSIONS]
        names = [name for name in names if not name.startswith(".")]
        if not names:
            raise UnreadableImageError(f"{self.path} holds no frame; pass a folder of numbered images, or a video")
        return [self.path / name for name in sorted(names, key=_natural)]


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]


@dataclass(frozen=True)
class VideoFile:
    """A video file; see `FrameFolder` for what its methods answer.

    Attributes:
        path: the file.
    """

    path: Path

    def length(self) -> int:
        """Number of frames; decodes the whole file."""
        return count_frames(self.path)

    def read(self, indices: Sequence[int], fit: Fit) -> np.ndarray:
        """Some frames, (F, H, W, 3) uint8, RGB."""
        images = read_frames(self.path, indices)
        return np.stack([fit_image(image, fit.size, fit.crop_pct, fit.interpolation) for image in images])


Recording = FrameFolder | VideoFile


def segment_centers(length: int, count: int) -> np.ndarray:
    """The frames in the middle of `count` equally long segments, for testing, as TSM's authors choose them.

    Returns:
        (F,) int64 in [0, length), in order of time; frames are repeated evenly where there are fewer than F.
    """
    tick = length / count
    return np.array([int(tick / 2.0 + tick * index) for index in range(count)], dtype=np.int64)


def random_in_segments(length: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """A random frame of each of `count` equally long segments, for training.

    Differs from TSM where a recording has fewer frames than the clip: TSM takes its first frame F times; here, frames
    are repeated as in testing, so that something still moves.

    Returns:
        (F,) int64 in [0, length), in order of time.
    """
    duration = length // count
    if duration == 0:
        return segment_centers(length, count)
    return np.arange(count, dtype=np.int64) * duration + rng.integers(duration, size=count)


class Clip(NamedTuple):
    """Some frames of a recording.

    Attributes:
        frames: (F, H, W, 3) uint8, RGB.
        length: how many frames the recording has; if there are fewer than F, some were repeated.
    """

    frames: np.ndarray
    length: int


def read_clip(path: Path, num_frames: int, fit: Fit) -> Clip:
    """Reads a clip of F frames, the centers of equally long segments, from a video or a folder of frames.

    Raises:
        UnreadableImageError: if it is an image, or can't be decoded.
    """
    if path.is_file() and path.suffix.lower() in EXTENSIONS:
        raise UnreadableImageError(
            f"{path} is an image, the networks take clips of {num_frames} frames; pass a video or a folder of frames"
        )
    recording: Recording = FrameFolder(path) if path.is_dir() else VideoFile(path)
    length = recording.length()
    return Clip(recording.read(segment_centers(length, num_frames).tolist(), fit), length)


def count_frames(path: Path) -> int:
    """Frames of a video file, counted by decoding it; for the errors see `read_frames`."""
    report = _ffmpeg(path, "-progress", "pipe:1", "-f", "null", "-").decode()
    counts = re.findall(r"^frame=\s*(\d+)", report, re.MULTILINE)
    if not counts or int(counts[-1]) == 0:
        raise _unreadable(path, "it holds no frame")
    return int(counts[-1])


def read_frames(path: Path, indices: Sequence[int]) -> list[Image.Image]:
    """The frames of a video file at some indices, from 0, upright, in RGB.

    Raises:
        UnreadableImageError: if it can't be decoded, holds no video, or has fewer frames.
        ValueError: if there is no FFmpeg.
    """
    wanted = sorted(set(indices))
    chosen = "+".join(rf"eq(n\,{index})" for index in wanted)
    arguments = ("-vf", f"select={chosen}", "-fps_mode", "passthrough", "-frames:v", str(len(wanted)))
    images = _ppm_images(_ffmpeg(path, *arguments, "-c:v", "ppm", "-f", "image2pipe", "-"))
    if len(images) < len(wanted):
        raise _unreadable(path, f"frame {wanted[len(images)] + 1} is missing")
    return [images[wanted.index(index)] for index in indices]


@functools.cache
def ffmpeg_program() -> str:
    """Where FFmpeg's program is: that of imageio-ffmpeg, else the system's; a `ValueError` if there is none."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        program = shutil.which("ffmpeg")
    if program is None:
        raise ValueError("video files need FFmpeg; run `pip install 'gfnet-gym[clips]'` or install FFmpeg")
    return program


def _ppm_images(content: bytes) -> list[Image.Image]:
    """All images of a stream of PPM images."""
    images, start = [], 0
    while header := _PPM_HEADER.match(content, start):
        width, height = int(header[1]), int(header[2])
        start = header.end() + 3 * width * height
        images.append(Image.frombytes("RGB", (width, height), content[header.end() : start]))
    return images


def _ffmpeg(path: Path, *arguments: str) -> bytes:
    """What FFmpeg writes when it reads the first video stream of a file."""
    source = ("-protocol_whitelist", "file,pipe", "-i", f"file:{path}", "-map", "0:V:0")  # V: no cover pictures
    command = [ffmpeg_program(), "-nostdin", "-v", "error", "-xerror", *source, *arguments]
    if not path.is_file():
        raise _unreadable(path, "there is no such file" if not path.exists() else "it is not a regular file")
    done = subprocess.run(command, capture_output=True, check=False)
    errors = done.stderr.decode(errors="replace")
    if done.returncode:
        lines = [_IN_BRACKETS.sub("", line) for line in errors.strip().splitlines()]
        raise _unreadable(path, "it holds no video" if _NO_VIDEO in errors else (lines or ["FFmpeg failed"])[0])
    return done.stdout


def _unreadable(path: Path, reason: str) -> UnreadableImageError:
    return UnreadableImageError(f"{path} can't be decoded ({reason}); remove it, or have unreadable clips skipped")
