"""The images of a run, split by split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agents.runs.config import DataSpec
from classifiers.data.folder import FolderImages, in_memory
from classifiers.data.random_crops import RandomCrops
from classifiers.data.source import ImageSource
from classifiers.data.synthetic_signs.cache import load_scenes

OnCount = Callable[[int, int], None]

_MEMORY_FOR_IMAGES = 4 << 30  # bytes; larger image folders are decoded again whenever they are looked at


def open_training_images(spec: DataSpec, seed: int) -> ImageSource | None:
    """Random crops of the training files, if the run wants them; see `open_images` for what may go wrong."""
    if spec.train_crop is None:
        return None
    return RandomCrops(_open_files(spec, "train"), spec.train_crop, seed)


def calibration_split(spec: DataSpec, reported: str) -> str:
    """The split that confidence thresholds are found on, when `reported` is reported on: never the same images."""
    is_val_reported = reported == "val"
    if reported == "test" and spec.kind == "image_folder":
        is_val_reported = not (Path(spec.root or "") / "test").is_dir()
    return "train" if is_val_reported else "val"


def open_images(spec: DataSpec, split: str, on_progress: OnCount | None = None) -> ImageSource:
    """A split of a run's images.

    Args:
        spec: which images.
        split: `"train"`, `"val"` or `"test"`; an image folder without `test/` reports on `val/`.
        on_progress: told of (images read or drawn, images in all).

    Returns:
        The images, in memory where they fit.

    Raises:
        ValueError: if something about the images is wrong.
        FileNotFoundError: if there is no such folder.
    """
    count = {"train": spec.num_train, "val": spec.num_val, "test": spec.num_test}[split]
    if spec.kind == "synthetic_signs":
        assert count is not None
        return load_scenes(spec.scenes, split, count, on_progress=on_progress)
    source = _open_files(spec, split)
    if len(source) * 3 * spec.height * spec.width > _MEMORY_FOR_IMAGES:
        return source
    return in_memory(source, on_progress)


def _open_files(spec: DataSpec, split: str) -> FolderImages:
    if spec.root is None:
        raise ValueError("data.root is missing; pass --set data.root=TREE, a folder with train/ and val/ inside")
    root = Path(spec.root)
    if not root.is_dir():
        raise FileNotFoundError(f"data.root={spec.root} is not a folder; pass a folder with train/ and val/ inside")
    folder = root / ("val" if split == "test" and not (root / "test").is_dir() else split)
    source = FolderImages.open(
        folder,
        (spec.height, spec.width),
        unreadable=spec.unreadable,
        crop_pct=spec.crop_pct,
        interpolation=spec.interpolation,
    )
    return source.first({"train": spec.num_train, "val": spec.num_val, "test": spec.num_test}[split])
