"""Frames of video files, decoded by FFmpeg's program.

Of the system's, or of the wheel imageio-ffmpeg (`pip install 'gfnet-gym[clips]'`): it needs no shared libraries, so it
works wherever a wheel can be installed. Only local files are opened, whatever a file refers to.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from classifiers.data.decoding import UnreadableImageError

EXTENSIONS = frozenset({".webm", ".mp4", ".m4v", ".mov", ".mkv", ".avi", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv"})
"""File endings, in lower case, that count as videos."""

_NO_VIDEO = "matches no streams"  # what FFmpeg says of files with sound alone
_PPM_HEADER = re.compile(rb"P6\s(\d+)\s(\d+)\s255\s")
_IN_BRACKETS = re.compile(r"^(\[[^]]*\] )+")  # which part of FFmpeg speaks, at the start of a line


def count_frames(path: Path) -> int:
    """Frames of a video file, counted by decoding it.

    Raises:
        UnreadableImageError: if it can't be decoded or holds no video.
        ValueError: if there is no FFmpeg.
    """
    report = _ffmpeg(path, "-progress", "pipe:1", "-f", "null", "-").decode()
    counts = re.findall(r"^frame=\s*(\d+)", report, re.MULTILINE)
    if not counts or int(counts[-1]) == 0:
        raise _unreadable(path, "it holds no frame")
    return int(counts[-1])


def read_frames(path: Path, indices: Sequence[int]) -> list[Image.Image]:
    """Some frames of a video file, upright, in RGB.

    Args:
        path: the file.
        indices: which frames, from 0, in order of time; some may be repeated.

    Returns:
        One image for each index.

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
    """Where FFmpeg's program is: that of imageio-ffmpeg, else the system's.

    Raises:
        ValueError: if there is none.
    """
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
