"""Image files as a source: of a tree with one folder per class, or of any list of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from classifiers.data.boxes import boxes_in_frame
from classifiers.data.decoding import decode_image, decode_whole, upright_size
from classifiers.data.file_tree import class_files
from classifiers.data.loading import map_threads, readable_indices
from classifiers.data.source import Batch, ImageSource, batch_without_boxes


def encode_paths(paths: Iterable[str | Path]) -> np.ndarray:
    """(N,) bytes: paths in one array, which takes a fifth of the memory of strings, for ImageNet's 1.28 million."""
    return np.array([os.fsencode(path) for path in paths])


@dataclass(frozen=True, eq=False)
class FolderImages(ImageSource):
    """Image files and their labels, such as a tree with one folder per class; fetching decodes, by one thread per core.

    Every kind of image becomes upright RGB, see `classifiers.data.decoding`, is scaled to cover the wanted size, then
    cropped.

    Attributes:
        files: (N,) bytes, paths of the images, see `encode_paths`.
        labels: (N,) int64.
        class_names: names of the K classes, by label; of a tree, its folders in alphabetical order, as torchvision's
            ImageFolder numbers them.
        image_size: (H, W) in pixels.
        crop_pct: share of each side that the center crop keeps; 0.875 is ImageNet's (224 of 256).
        interpolation: how files are scaled, one of `classifiers.data.decoding.INTERPOLATIONS`.
        num_skipped: unreadable files that were left out.
        boxes: (N, 4) int64, see `classifiers.data.source.Batch.boxes`; None if none is known.
    """

    decodes_files = True

    files: np.ndarray
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
        class_names: tuple[str, ...] | None = None,
    ) -> FolderImages:
        """Finds the images of a tree.

        Args:
            root: folder with one folder per class.
            image_size: (H, W) in pixels to which images are scaled and cropped.
            crop_pct: see the class.
            interpolation: see the class.
            boxes_file: a file of boxes in a folder that holds the tree, see `classifiers.data.boxes`; None: no boxes.
            class_names: the classes, by label, of which the tree may lack some; None takes its folders.

        Returns:
            The images.

        Raises:
            FileNotFoundError: if there is no such folder, or a file that the boxes file names is not there.
            ValueError: if it holds fewer than two classes, a class without an image or an unknown one, or if the boxes
                file is not what it should be.
        """
        files, labels, names = class_files(root, "image", class_names)
        boxes = None if boxes_file is None else boxes_in_frame(boxes_file, files, image_size, crop_pct)
        paths = encode_paths(files)
        return cls(paths, torch.tensor(labels), names, image_size, crop_pct, interpolation, boxes=boxes)

    def __len__(self) -> int:
        return len(self.files)

    def fetch(self, indices: Tensor) -> Batch:
        images = np.stack(list(map_threads(self.decode, indices.tolist())))
        batch = batch_without_boxes(images, self.labels[indices])
        return batch if self.boxes is None else batch._replace(boxes=self.boxes[indices])

    def path(self, index: int) -> Path:
        """Where an image lies."""
        return Path(os.fsdecode(self.files[index]))

    def decode(self, index: int) -> np.ndarray:
        """One image, (H, W, 3) uint8."""
        return decode_image(self.path(index), self.image_size, self.crop_pct, self.interpolation)

    def open_rgb(self, index: int) -> Image.Image:
        """One image in RGB at the size that it has on disk."""
        return decode_whole(self.path(index))

    def median_size(self, sample: int = 100) -> tuple[int, int]:
        """(H, W) of a typical image on disk, in pixels: medians over some images, read from their headers.

        Args:
            sample: how many images, spread evenly over all.

        Raises:
            UnreadableImageError: if one of the headers can't be read.
        """
        sizes = [upright_size(self.path(index)) for index in range(0, len(self), max(1, len(self) // sample))]
        return int(np.median([height for height, _ in sizes])), int(np.median([width for _, width in sizes]))

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
        if lost := set(self.labels.tolist()) - set(kept.labels.tolist()):
            raise ValueError(
                f"class {self.class_names[min(lost)]!r} holds no readable image; add some or remove its folder"
            )
        return kept

    def only(self, kept: Tensor) -> FolderImages:
        """The images at (B,) indices."""
        boxes = None if self.boxes is None else self.boxes[kept]
        return replace(self, files=self.files[kept.numpy()], labels=self.labels[kept], boxes=boxes)
