"""Images changed at random: crops of files for stages I and III, shifted copies for stage II. They have no boxes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from classifiers.data.decoding import INTERPOLATIONS
from classifiers.data.folder import FolderImages
from classifiers.data.loading import ChangingFiles
from classifiers.data.source import Batch, ImageSource, SourceView

COPIES = 32
"""Shifts of each image."""

_RATIOS = (3.0 / 4.0, 4.0 / 3.0)  # width over height of a crop, torchvision's
_TRIES = 10  # for a crop that lies inside the image, also torchvision's


class RandomCrops(ChangingFiles[FolderImages]):
    """The files of a folder, each cropped differently in every epoch, as torchvision's RandomResizedCrop does.

    Args:
        source: the files.
        scale: least and largest share of the image's area that a crop keeps.
        seed: see `ChangingFiles`.
    """

    def __init__(self, source: FolderImages, scale: tuple[float, float], seed: int = 0) -> None:
        super().__init__(source, seed)
        self.scale = scale

    def draw(self, index: int, rng: np.random.Generator) -> np.ndarray:
        image = self.source.open_rgb(index)
        top, left, rows, columns = _random_box(image.height, image.width, self.scale, rng)
        crop = image.crop((left, top, left + columns, top + rows))
        height, width = self.image_size
        return np.asarray(crop.resize((width, height), INTERPOLATIONS[self.source.interpolation]))


def _random_box(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(top, left, height, width) in pixels: a share of the area and a ratio at random; the center if none fits."""
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(_RATIOS[0]), math.log(_RATIOS[1])))
        rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            return int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)), rows, columns
    rows = min(height, round(width / _RATIOS[0]))
    columns = min(width, round(height * _RATIOS[1]))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


class ShiftedCopies(SourceView[ImageSource]):
    """Copies of a source's images, each shifted once and for all, so that a policy can't learn places by heart.

    The first copy of an image is the image itself. Copies are numbered one after the other, all images' first copies
    foremost.

    Args:
        source: the images.
        shift_px: largest shift in each direction, in pixels, smaller than the images' sides; borders are filled by
            reflection.
        seed: of the shifts; a copy's shift depends on seed and number alone.

    Raises:
        ValueError: if the shift is as large as an image.
    """

    def __init__(self, source: ImageSource, shift_px: int, seed: int = 0) -> None:
        super().__init__(source)
        height, width = source.image_size
        if shift_px >= min(height, width):
            raise ValueError(
                f"shift_px={shift_px} exceeds the {height}x{width} images; pass fewer pixels than their sides"
            )
        self.shift_px = shift_px
        rng = np.random.default_rng([seed, shift_px])
        self._corners = rng.integers(0, 2 * shift_px + 1, (len(self), 2))  # top-left pixels in the padded images
        self._corners[: len(source)] = shift_px

    def __len__(self) -> int:
        return COPIES * len(self.source)

    def fetch(self, indices: Tensor) -> Batch:
        batch = self.source.fetch(indices % len(self.source))
        (height, width), pad = self.image_size, self.shift_px
        padded = functional.pad(batch.images.flatten(0, -4), (pad,) * 4, mode="reflect")
        padded = padded.view(*batch.images.shape[:-2], *padded.shape[-2:])
        corners = self._corners[indices.numpy()].tolist()
        images = [image[..., r : r + height, c : c + width] for image, (r, c) in zip(padded, corners, strict=True)]
        return Batch(torch.stack(images), batch.labels, torch.zeros_like(batch.boxes))

    def prefetch(self, indices: np.ndarray) -> None:
        self.source.prefetch(indices % len(self.source))
