"""Drawn scenes as a collection and in memory; kept on disk, so that each is drawn once on a machine."""

from __future__ import annotations

import os
import random
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, Self

import numpy as np
import PIL
import platformdirs
import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from classifiers.data.collection import SPLITS, Count, ImageCollection, OnProgress
from classifiers.data.source import ArrayImages
from classifiers.files import write_bytes
from classifiers.settings import Settings

SHARD_SIZE = 500
"""Scenes in a file of the cache."""

_Arrays = dict[str, np.ndarray]


class Scene(NamedTuple):
    """One drawn scene.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        label: index into the drawing's `classes`.
        boxes: (N, 4) int64, see `classifiers.data.source.Batch.boxes`.
    """

    image: np.ndarray
    label: int
    boxes: np.ndarray


class DrawingSpec(Settings, ABC):
    """How scenes are drawn; equal specs draw equal scenes.

    A subclass says how, and adds its settings as fields; two of them are always the size, another is the seed.

    Attributes:
        name: of the drawing; names its folder in the cache.
        version: to be raised by one whenever scenes of the same spec come to look different: cached scenes of other
            versions are not used.
        classes: names of the K classes, by label.
        num_boxes: boxes N of each scene.
        height: image height in pixels.
        width: image width in pixels.
        seed: another seed draws other scenes.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    classes: ClassVar[tuple[str, ...]]
    num_boxes: ClassVar[int] = 1

    height: int
    width: int
    seed: int

    @abstractmethod
    def draw(self, rng: random.Random) -> Scene:
        """Draws a scene.

        Args:
            rng: source of all randomness.
        """

    def draw_scene(self, split: str, index: int) -> Scene:
        """Draws one scene; the same arguments always draw the same scene.

        Args:
            split: one of `classifiers.data.collection.SPLITS`, whose scenes come from disjoint random streams.
            index: which scene of the split, from 0.

        Returns:
            The scene, its label and its boxes.

        Raises:
            ValueError: if there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}; pass one of these")
        return self.draw(random.Random(f"{self.seed}/{split}/{index}"))


class SignSceneSpec(DrawingSpec):
    """How scenes with signs of a range of sizes are drawn.

    Attributes:
        height: image height in pixels, at least twice `max_sign_px`.
        width: image width in pixels, at least twice `max_sign_px`.
        seed: another seed draws other scenes.
        min_sign_px: smallest diameter of a sign, in pixels.
        max_sign_px: largest diameter of a sign, in pixels.
    """

    height: int = 192
    width: int = 256
    seed: Annotated[int, Field(ge=0)] = 0
    min_sign_px: int
    max_sign_px: int

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.min_sign_px > self.max_sign_px:
            raise ValueError(f"min_sign_px={self.min_sign_px} exceeds max_sign_px={self.max_sign_px}")
        if min(self.height, self.width) < 2 * self.max_sign_px:
            raise ValueError(
                f"height={self.height}, width={self.width} are too small for max_sign_px={self.max_sign_px}; pass at "
                f"least {2 * self.max_sign_px}"
            )
        return self


class DrawnScenes(ImageCollection):
    """Drawn scenes.

    Attributes:
        num_train: scenes of `"train"`.
        num_val: scenes of `"val"`.
        num_test: scenes of `"test"`.
        scenes: what they look like.
    """

    num_train: Count
    num_val: Count
    num_test: Count
    scenes: DrawingSpec

    @property
    def image_size(self) -> tuple[int, int]:
        return self.scenes.height, self.scenes.width

    def class_names(self) -> tuple[str, ...]:
        return self.scenes.classes

    def open(self, split: str, on_progress: OnProgress | None = None) -> ArrayImages:
        """Draws a split, or takes it from the cache."""
        return load_scenes(self.scenes, split, self.counts[split] or 1, on_progress=on_progress)


def load_scenes(
    spec: DrawingSpec,
    split: str,
    num_scenes: int,
    *,
    cache_dir: Path | None = None,
    on_progress: OnProgress | None = None,
) -> ArrayImages:
    """The first scenes of a split; those that are not in the cache are drawn.

    If the cache folder can't be written, the scenes are drawn into memory only, and a warning says so.

    Args:
        spec: what the scenes look like.
        split: one of `classifiers.data.collection.SPLITS`.
        num_scenes: how many, L.
        cache_dir: where files of `SHARD_SIZE` scenes are kept; None takes `$GFNET_CACHE`, else the user's cache folder.
        on_progress: called with (scenes done, L) after every file that had to be drawn.

    Returns:
        L scenes in memory: 147 kB each at 192x256.

    Raises:
        ValueError: if `num_scenes` is not positive or `split` unknown.
    """
    if num_scenes < 1:
        raise ValueError(f"num_scenes={num_scenes}; pass 1 or more")
    folder = cache_folder(spec, cache_dir)
    shards = []
    for start in range(0, num_scenes, SHARD_SIZE):
        path = folder / f"{split}-{start // SHARD_SIZE:05d}.safetensors"
        wanted = min(SHARD_SIZE, num_scenes - start)
        shard = _read(path)
        if shard is None:
            shard = _draw(spec, split, range(start, start + wanted))
            if wanted == SHARD_SIZE:
                try_to_keep(path, save(shard))
            if on_progress is not None:
                on_progress(start + wanted, num_scenes)
        shards.append({name: torch.from_numpy(array[:wanted]) for name, array in shard.items()})
    images, labels, boxes = (torch.cat([shard[name] for shard in shards]) for name in ("images", "labels", "boxes"))
    return ArrayImages(images, labels, boxes.view(len(boxes), spec.num_boxes, 4), spec.classes)


def cache_folder(spec: DrawingSpec, cache_dir: Path | None = None) -> Path:
    """Where scenes of a spec are kept; it changes with the spec, the version of the drawings and Pillow's.

    Args:
        spec: what the scenes look like.
        cache_dir: see `load_scenes`.
    """
    if cache_dir is None:
        cache_dir = Path(os.environ.get("GFNET_CACHE") or platformdirs.user_cache_dir("gfnet-gym")) / spec.name
    fields = {name: value for name, value in spec if name != "seed"} | {"seed": spec.seed}
    settings = "-".join(f"{name}{value}" for name, value in fields.items())
    return cache_dir / f"v{spec.version}-pillow{PIL.__version__}-{settings}"


def _draw(spec: DrawingSpec, split: str, indices: range) -> _Arrays:
    scenes = [spec.draw_scene(split, index) for index in indices]
    return {
        "images": np.ascontiguousarray(np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2)),
        "labels": np.array([scene.label for scene in scenes], dtype=np.int64),
        "boxes": np.stack([scene.boxes.ravel() for scene in scenes]),  # (S, N * 4)
    }


def try_to_keep(path: Path, content: bytes) -> None:
    """Writes a file of the cache, or warns: a cache that can't be kept costs time, nothing else."""
    try:
        write_bytes(path, content)
    except OSError as error:
        warnings.warn(
            f"{path.parent} can't be written ({error.strerror}), so nothing is kept for the next time; set GFNET_CACHE "
            "to a folder that can be written",
            stacklevel=2,
        )


def _read(path: Path) -> _Arrays | None:
    """A file's scenes; None if it is not there, or damaged."""
    try:
        return dict(load_file(path))
    except (OSError, ValueError, SafetensorError):
        return None
