"""The images of a run, split by split."""

from __future__ import annotations

from collections.abc import Callable

from agents.runs.config import RunConfig
from agents.runs.log import Reporter
from agents.runs.photo_sizes import crop_sentence
from classifiers.data.folder import FolderImages
from classifiers.data.source import ImageSource, are_same_classes, in_memory

_MEMORY_FOR_IMAGES = 4 << 30  # bytes; larger image folders are decoded whenever they are looked at


class RunImages:
    """The images of a run, each split opened once.

    Args:
        config: the run's.
        reporter: shows progress.
    """

    def __init__(self, config: RunConfig, reporter: Reporter) -> None:
        self._config, self._reporter = config, reporter
        self._opened: dict[str, ImageSource] = {}

    def __call__(self, split: str) -> ImageSource:
        """A split of the images; see `open_images`."""
        if split not in self._opened:
            advance = self._reporter.track(f"{split} images")
            note = self._reporter.note if split == "train" else None
            source = open_images(self._config, split, lambda done, total: advance(done, total, {}), note)
            if source.num_skipped:
                self._reporter.note(f"{source.num_skipped} unreadable {_kind(source)} of {split} were left out")
            if source.num_short:
                self._reporter.note(
                    f"{source.num_short} clips of {split} have fewer than {source.num_frames} frames: some are repeated"
                )
            self._opened[split] = source
        return self._opened[split]

    def training(self, seed: int) -> ImageSource:
        """The images to train on, with random crops if the run wants them; of clips, random frames."""
        return self._config.collection.open_augmented(seed) or self("train")

    def calibration(self, reported: str) -> ImageSource:
        """Images for thresholds when results are reported on `reported`: never the same ones."""
        return self(self.calibration_split(reported))

    def calibration_split(self, reported: str) -> str:
        """The split of `calibration`."""
        return self._config.collection.calibration_split(reported)


def open_images(
    config: RunConfig,
    split: str,
    on_progress: Callable[[int, int], None] | None = None,
    on_crop: Callable[[str], None] | None = None,
) -> ImageSource:
    """A split of a run's images.

    Args:
        config: the run's.
        split: `"train"`, `"val"` or `"test"`; an image folder without `test/` reports on `val/`.
        on_progress: called with (images read or drawn, images in all).
        on_crop: called with a sentence on how much of the photos is cropped away.

    Returns:
        The images, in memory where they fit.

    Raises:
        ValueError: if something about the images is wrong.
        FileNotFoundError: if there is no such folder.
    """
    source = config.collection.open(split, on_progress)
    if on_crop is not None and isinstance(source, FolderImages) and (sizes := source.sizes()):
        on_crop(crop_sentence(sizes, source.image_size, source.crop_pct))
    height, width = source.image_size
    bytes_each = (source.num_frames or 1) * 3 * height * width
    if not source.decodes_files or len(source) * bytes_each > _MEMORY_FOR_IMAGES:
        return source
    return in_memory(source, on_progress)


def _kind(source: ImageSource) -> str:
    return "images" if source.num_frames is None else "clips"


def check_classes(known: tuple[str, ...], source: ImageSource, networks: str) -> None:
    """Checks that networks and images have the same classes.

    Args:
        known: the classes of the networks.
        source: the images.
        networks: what to call the networks in an error.

    Raises:
        ValueError: if they differ.
    """
    if not are_same_classes(known, source.class_names):
        raise ValueError(
            f"{networks} knows the classes {_some(known)}, the data set has {_some(source.class_names)}; pass a run of "
            "this data set"
        )


def _some(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''} ({len(names)})"
