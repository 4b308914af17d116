"""The images of a run, split by split."""

from __future__ import annotations

from collections.abc import Callable

from agents.runs.config import DataSpec
from classifiers.data.folder import in_memory
from classifiers.data.source import ImageSource

_MEMORY_FOR_IMAGES = 4 << 30  # bytes; larger image folders are decoded whenever they are looked at


def open_training_images(spec: DataSpec, seed: int) -> ImageSource | None:
    """The training images with random crops, if the run wants them; see `open_images` for the errors."""
    return spec.collection.open_augmented(spec.num_train, seed)


def calibration_split(spec: DataSpec, reported: str) -> str:
    """The split that confidence thresholds are found on when `reported` is reported on: never the same images."""
    return spec.collection.calibration_split(reported)


def open_images(spec: DataSpec, split: str, on_progress: Callable[[int, int], None] | None = None) -> ImageSource:
    """A split of a run's images.

    Args:
        spec: which images.
        split: `"train"`, `"val"` or `"test"`; an image folder without `test/` reports on `val/`.
        on_progress: called with (images read or drawn, images in all).

    Returns:
        The images, in memory where they fit.

    Raises:
        ValueError: if something about the images is wrong.
        FileNotFoundError: if there is no such folder.
    """
    source = spec.collection.open(split, spec.counts[split], on_progress)
    height, width = source.image_size
    bytes_each = (source.num_frames or 1) * 3 * height * width
    if not source.decodes_files or len(source) * bytes_each > _MEMORY_FOR_IMAGES:
        return source
    return in_memory(source, on_progress)
