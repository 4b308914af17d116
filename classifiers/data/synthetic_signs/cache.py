"""Drawn scenes kept on disk, so that each is drawn once on a machine.

Shards of 500 scenes are kept in the user's cache folder (or `$GFNET_CACHE`), each written atomically and with a
checksum of its content: a partial, corrupt or foreign shard is drawn again, never used.
"""

from __future__ import annotations

import hashlib
import os
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import platformdirs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from classifiers.data.source import ArrayImages
from classifiers.data.synthetic_signs.scenes import DRAWING_VERSION, SceneSpec, draw_scene
from classifiers.data.synthetic_signs.signs import CLASS_NAMES
from classifiers.files import write_bytes

SHARD_SIZE = 500
"""Scenes in a shard."""

_Arrays = dict[str, np.ndarray]

_not_kept: set[Path] = set()  # folders that could not be written


def load_scenes(
    spec: SceneSpec,
    split: str,
    num_scenes: int,
    *,
    cache_dir: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ArrayImages:
    """The first scenes of a split; those that are not in the cache are drawn.

    If the cache folder can't be written, the scenes are drawn into memory only, and a warning says so once.

    Args:
        spec: what the scenes look like.
        split: one of `classifiers.data.synthetic_signs.scenes.SPLITS`.
        num_scenes: how many, N.
        cache_dir: where shards are kept; None takes `default_cache_dir()`.
        on_progress: called with (scenes done, N) after every shard that had to be drawn.

    Returns:
        N scenes in memory: 147 kB each at 192x256.

    Raises:
        ValueError: if `num_scenes` is not positive or `split` unknown.
    """
    if num_scenes < 1:
        raise ValueError(f"num_scenes={num_scenes}; pass 1 or more")
    folder = (cache_dir or default_cache_dir()) / _fingerprint(spec)
    images = torch.empty(num_scenes, 3, spec.height, spec.width, dtype=torch.uint8)
    labels, boxes = torch.empty(num_scenes, dtype=torch.int64), torch.empty(num_scenes, 4, dtype=torch.int64)
    for start in range(0, num_scenes, SHARD_SIZE):
        path = folder / f"{split}-{start // SHARD_SIZE:05d}.safetensors"
        # a request may take only a shard's first scenes; only whole shards are kept
        wanted = min(SHARD_SIZE, num_scenes - start)
        shard = _read(path, spec)
        if shard is None:
            shard = _draw(spec, split, range(start, start + wanted))
            if wanted == SHARD_SIZE:
                _try_to_keep(path, shard)
            if on_progress is not None:
                on_progress(start + wanted, num_scenes)
        images[start : start + wanted] = torch.from_numpy(shard["images"][:wanted])
        labels[start : start + wanted] = torch.from_numpy(shard["labels"][:wanted])
        boxes[start : start + wanted] = torch.from_numpy(shard["boxes"][:wanted])
    return ArrayImages(images, labels, boxes, CLASS_NAMES)


def default_cache_dir() -> Path:
    """Where scenes are kept: `$GFNET_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("GFNET_CACHE") or platformdirs.user_cache_dir("gfnet-gym")) / "synthetic_signs"


def _fingerprint(spec: SceneSpec) -> str:
    """Changes with the spec, the version of the drawings and Pillow's."""
    drawing = repr((DRAWING_VERSION, sorted(dict(spec).items()), PIL.__version__))
    return hashlib.sha256(drawing.encode()).hexdigest()[:16]


def _draw(spec: SceneSpec, split: str, indices: range) -> _Arrays:
    scenes = [draw_scene(spec, split, index) for index in indices]
    return {
        "images": np.ascontiguousarray(np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2)),
        "labels": np.array([scene.label for scene in scenes], dtype=np.int64),
        "boxes": np.stack([scene.box for scene in scenes]),
    }


def _checksum(shard: _Arrays) -> str:
    value = 0
    for name in ("images", "labels", "boxes"):
        value = zlib.crc32(np.ascontiguousarray(shard[name]).data, value)
    return f"{value:08x}"


def _try_to_keep(path: Path, shard: _Arrays) -> None:
    try:
        write_bytes(path, save(shard, {"crc32": _checksum(shard)}))
    except OSError as error:  # a cache that can't be kept costs time, nothing else
        if path.parent not in _not_kept:
            _not_kept.add(path.parent)
            warnings.warn(
                f"{error.filename} can't be written ({error.strerror}), so scenes are drawn anew each time; set "
                "GFNET_CACHE to a folder that can be written",
                stacklevel=2,
            )


def _read(path: Path, spec: SceneSpec) -> _Arrays | None:
    """A shard, or None where there is none that can be trusted."""
    try:
        with safe_open(path, framework="numpy") as file:
            shard = {name: file.get_tensor(name) for name in ("images", "labels", "boxes")}
            checksum = (file.metadata() or {}).get("crc32")
    except (OSError, SafetensorError):
        return None
    if shard["images"].shape != (SHARD_SIZE, 3, spec.height, spec.width) or _checksum(shard) != checksum:
        return None
    return shard
