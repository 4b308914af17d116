"""Images from the user's own data: a tree with one folder per class, or any map-style torch data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from classifiers.data.boxes import boxes_in_frame
from classifiers.data.clips.videos import EXTENSIONS as VIDEO_EXTENSIONS
from classifiers.data.decoding import (
    EXTENSIONS,
    decode_image,
    decode_whole,
)
from classifiers.data.path_list import PathList
from classifiers.data.source import ArrayImages, Batch, ImageSource, SourceDefaults, batch_without_boxes
from classifiers.data.threads import map_threads, readable_indices


@dataclass(frozen=True)
class FolderImages(SourceDefaults):
    """Image files and their labels, such as a tree with one folder per class; fetching decodes, by one thread per core.

    Every kind of image becomes upright RGB, see `classifiers.data.decoding`, is scaled to cover the wanted size, then
    cropped.

    Attributes:
        files: paths of the images.
        labels: (N,) int64.
        class_names: names of the K classes, by label; of a tree, its folders in alphabetical order, as torchvision's
            ImageFolder numbers them.
        image_size: (H, W) in pixels.
        crop_pct: share of each side that the centre crop keeps; 0.875 is ImageNet's (224 of 256).
        interpolation: how files are scaled, one of `classifiers.data.decoding.INTERPOLATIONS`.
        num_skipped: unreadable files that were left out.
        boxes: (N, 4) int64, see `classifiers.data.source.Batch.boxes`; None if none is known.
    """

    files: PathList
    labels: Tensor
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    num_skipped: int = 0
    boxes: Tensor | None = None

    @classmethod
    def open(
        cls,
        root: Path,
        image_size: tuple[int, int],
        *,
        crop_pct: float = 1.0,
        interpolation: str = "bilinear",
        boxes_file: Path | None = None,
    ) -> FolderImages:
        """Finds the images of a tree.

        Args:
            root: folder with one folder per class.
            image_size: (H, W) in pixels to which images are scaled and cropped.
            crop_pct: see the class.
            interpolation: see the class.
            boxes_file: a file of boxes in a folder that holds the tree, see `classifiers.data.boxes`; None: no boxes.

        Returns:
            The images.

        Raises:
            FileNotFoundError: if there is no such folder, or a file that the boxes file names is not there.
            ValueError: if it holds fewer than two classes, or a class without an image, or if the boxes file is not
                what it should be.
        """
        names = class_folders(root)
        counts: list[int] = []
        files = PathList.of(root, _files_of_classes(root, names, counts))
        labels = torch.arange(len(names)).repeat_interleave(torch.tensor(counts))
        boxes = None if boxes_file is None else boxes_in_frame(boxes_file, files, image_size, crop_pct)
        return cls(files, labels, names, image_size, crop_pct, interpolation, boxes=boxes)

    @property
    def decodes_files(self) -> bool:
        """Yes."""
        return True

    def __len__(self) -> int:
        return len(self.files)

    def fetch(self, indices: Tensor) -> Batch:
        """See `classifiers.data.source.ImageSource.fetch`.

        Raises:
            UnreadableImageError: if a file can't be decoded.
        """
        images = np.stack(list(map_threads(self.decode, indices.tolist())))
        batch = batch_without_boxes(images, self.labels[indices])
        return batch if self.boxes is None else batch._replace(boxes=self.boxes[indices])

    def decode(self, index: int) -> np.ndarray:
        """One image, (H, W, 3) uint8.

        Raises:
            UnreadableImageError: if the file can't be decoded.
        """
        return decode_image(self.files[index], self.image_size, self.crop_pct, self.interpolation)

    def open_rgb(self, index: int) -> Image.Image:
        """One image in RGB at the size that it has on disk.

        Raises:
            UnreadableImageError: if the file can't be decoded.
        """
        return decode_whole(self.files[index])

    def first(self, count: int | None) -> FolderImages:
        """At most `count` of the images, spread evenly over the classes; all of them if None."""
        if count is None or count >= len(self):
            return self
        return self.only(torch.linspace(0, len(self) - 1, count).round().long())

    def without_unreadable(self, on_progress: Callable[[int, int], None] | None = None) -> FolderImages:
        """The images that can be decoded; all are decoded to find out.

        Args:
            on_progress: called with (files checked, files in all).

        Raises:
            ValueError: if a class is left without an image.
        """
        good = readable_indices(self.decode, len(self), on_progress)
        kept = replace(self.only(torch.tensor(good, dtype=torch.int64)), num_skipped=len(self) - len(good))
        for label, count in enumerate(kept.labels.bincount(minlength=len(self.class_names)).tolist()):
            if not count:
                raise ValueError(
                    f"class {self.class_names[label]!r} holds no readable image; add some or remove its folder"
                )
        return kept

    def only(self, kept: Tensor) -> FolderImages:
        """The images at (B,) indices."""
        boxes = None if self.boxes is None else self.boxes[kept]
        return replace(self, files=self.files.take(kept), labels=self.labels[kept], boxes=boxes)


def in_memory(source: ImageSource, on_progress: Callable[[int, int], None] | None = None) -> ArrayImages:
    """Decodes a source once and keeps the pixels.

    Args:
        source: the images.
        on_progress: called with (images done, images in all).

    Returns:
        The same images in memory.

    Raises:
        UnreadableImageError: if a file can't be decoded.
    """
    parts = []
    for indices in torch.arange(len(source)).split(256):
        parts.append(source.fetch(indices))
        if on_progress is not None:
            on_progress(int(indices[-1]) + 1, len(source))
    images, labels, boxes = (torch.cat([getattr(part, name) for part in parts]) for name in Batch._fields)
    return ArrayImages(images, labels, boxes, source.class_names, source.num_skipped, source.num_short)


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder at any depth, in order; only regular files count, whatever else is named like one."""
    return [Path(name) for name in _image_names(os.fspath(folder))]


def class_folders(root: Path) -> tuple[str, ...]:
    """Names of a tree's class folders in alphabetical order.

    Raises:
        FileNotFoundError: if there is no such tree.
        ValueError: if it holds fewer than two.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; pass a tree that holds it, with one folder per class inside")
    names = sorted(path.name for path in root.iterdir() if not path.name.startswith(".") and path.is_dir())
    if len(names) < 2:
        raise ValueError(f"{root} holds {len(names)} class folders; pass a tree with one folder per class, two or more")
    return tuple(names)


def _files_of_classes(root: Path, names: Sequence[str], counts: list[int]) -> Iterator[str]:
    """Image files relative to the tree, class by class; `counts` is filled with how many each class has."""
    start = len(os.path.join(root, ""))
    for name in names:
        found = _image_names(os.path.join(root, name))
        if not found:
            if any(os.path.splitext(file)[1].lower() in VIDEO_EXTENSIONS for file in _all_names(root / name)):
                raise ValueError(
                    f"class folder {root / name} holds videos, not images; pass them as data.kind=video_folder or to "
                    "GFNet-VideoFolder-v0"
                )
            raise ValueError(
                f"class folder {root / name} holds no image; add some ({', '.join(sorted(EXTENSIONS))}) or remove it"
            )
        counts.append(len(found))
        yield from (path[start:] for path in found)


def _all_names(folder: Path) -> Iterator[str]:
    for _, _, names in os.walk(folder):
        yield from names


def _image_names(folder: str) -> list[str]:
    """Paths of the image files of a folder at any depth, folder by folder in order."""
    found, folders = [], [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS and entry.is_file():
                    found.append(entry.path)
    return sorted(found, key=lambda path: path.replace(os.sep, "\0"))
