"""Image files as a source: of a tree with one folder per class, or of any list of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from classifiers.data.boxes import boxes_in_frame
from classifiers.data.decoding import UnreadableImageError, decode_image, decode_whole, upright_size
from classifiers.data.file_tree import class_files
from classifiers.data.loading import DecodedFiles
from classifiers.data.source import Batch


def encode_paths(paths: Iterable[str | Path]) -> np.ndarray:
    """(N,) bytes: paths in one array, which takes a fifth of the memory of strings, for ImageNet's 1.28 million."""
    return np.array([os.fsencode(path) for path in paths])


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderImages(DecodedFiles):
    """Image files and their labels, such as a tree with one folder per class.

    Attributes:
        files: (L,) bytes, paths of the images, see `encode_paths`.
        boxes: (L, N, 4) int64, see `classifiers.data.source.Batch.boxes`; None if none is known.
    """

    files: np.ndarray
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
            root: folder with one folder per class, numbered in alphabetical order as by torchvision's ImageFolder.
            image_size: see the class, as for `crop_pct` and `interpolation`.
            crop_pct: see `image_size`.
            interpolation: see `image_size`.
            boxes_file: a file of boxes in a folder that holds the tree, see `classifiers.data.boxes`; None: no boxes.
            class_names: the classes, by label, of which the tree may lack some; None takes its folders.

        Raises:
            FileNotFoundError: if there is no such folder, or a file that the boxes file names is not there.
            ValueError: if it holds fewer than two classes, a class without an image or an unknown one, or if the boxes
                file is not what it should be.
        """
        files, labels, names = class_files(root, "image", class_names)
        return cls(
            files=encode_paths(files),
            labels=torch.tensor(labels),
            class_names=names,
            image_size=image_size,
            crop_pct=crop_pct,
            interpolation=interpolation,
            boxes=None if boxes_file is None else boxes_in_frame(boxes_file, files, image_size, crop_pct),
        )

    @property
    def num_boxes(self) -> int:  # type: ignore[override]  # known once the boxes are
        return 1 if self.boxes is None else self.boxes.shape[1]

    def fetch(self, indices: Tensor) -> Batch:
        batch = super().fetch(indices)
        return batch if self.boxes is None else batch._replace(boxes=self.boxes[indices])

    def path(self, index: int) -> Path:
        """Where an image lies."""
        return Path(os.fsdecode(self.files[index]))

    def decode(self, index: int) -> np.ndarray:
        return decode_image(self.path(index), self.image_size, self.crop_pct, self.interpolation)

    def open_rgb(self, index: int) -> Image.Image:
        """One image in RGB at the size that it has on disk."""
        return decode_whole(self.path(index))

    def sizes(self, sample: int = 100) -> list[tuple[int, int]]:
        """(H, W) on disk of a sample of the images, read from their headers; unreadable ones are left out."""
        found = []
        for index in range(0, len(self), max(1, len(self) // sample)):
            with suppress(UnreadableImageError):
                found.append(upright_size(self.path(index)))
        return found

    def without_unreadable(self, on_progress: Callable[[int, int], None] | None = None) -> Self:
        """See `DecodedFiles.without_unreadable`; a `ValueError`, too, if a class is left without an image."""
        kept = super().without_unreadable(on_progress)
        if lost := set(self.labels.tolist()) - set(kept.labels.tolist()):
            raise ValueError(
                f"class {self.class_names[min(lost)]!r} holds no readable image; add some or remove its folder"
            )
        return kept

    def only(self, kept: Tensor) -> Self:
        boxes = None if self.boxes is None else self.boxes[kept]
        return replace(self, files=self.files[kept.numpy()], labels=self.labels[kept], boxes=boxes)
