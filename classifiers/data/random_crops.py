"""Training images cropped at random, differently in every epoch."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from classifiers.data.folder import FolderImages
from classifiers.data.source import Batch, SourceView, batch_without_boxes
from classifiers.data.threads import map_threads

_RATIOS = (3.0 / 4.0, 4.0 / 3.0)  # width over height of a crop, torchvision's
_TRIES = 10  # for a crop that lies inside the image, likewise


class RandomCrops(SourceView[FolderImages]):
    """The files of a folder, each cropped differently in every epoch, as torchvision's RandomResizedCrop does.

    Crops are drawn from generators of their own, not from torch's, so that threads may decode side by side.
    Boxes are for evaluation: crops have none.

    Args:
        source: the files.
        scale: least and largest share of the image's area that a crop keeps.
        seed: of the crops; the crop of a file depends on seed, epoch and index alone.
        epoch: which epoch this is.
    """

    def __init__(self, source: FolderImages, scale: tuple[float, float], seed: int = 0, epoch: int = 0) -> None:
        super().__init__(source)
        self.scale, self.seed, self.epoch = scale, seed, epoch

    def for_epoch(self, epoch: int) -> RandomCrops:
        """The same files with the crops of another epoch."""
        return RandomCrops(self.source, self.scale, self.seed, epoch)

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`.

        Raises:
            UnreadableImageError: if a file can't be decoded.
        """
        images = np.stack(list(map_threads(self.decode, indices.tolist())))
        return batch_without_boxes(images, self.source.labels[indices])

    def decode(self, index: int) -> np.ndarray:
        """One image's crop of this epoch, (H, W, 3) uint8.

        Raises:
            UnreadableImageError: if the file can't be decoded.
        """
        image = functional.pil_to_tensor(self.source.open_rgb(index))
        box = _random_box(
            image.shape[1], image.shape[2], self.scale, np.random.default_rng([self.seed, self.epoch, index])
        )
        mode = InterpolationMode(self.source.interpolation)
        crop = functional.resized_crop(image, *box, size=list(self.image_size), interpolation=mode, antialias=True)
        pixels: np.ndarray = crop.permute(1, 2, 0).numpy()
        return pixels


def _random_box(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(top, left, height, width) in pixels: a share of the area and a ratio at random; the centre if none fits."""
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(_RATIOS[0]), math.log(_RATIOS[1])))
        rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < rows <= height and 0 < columns <= width:
            return int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)), rows, columns
    rows = min(height, round(width / _RATIOS[0]))
    columns = min(width, round(height * _RATIOS[1]))
    return (height - rows) // 2, (width - columns) // 2, rows, columns
