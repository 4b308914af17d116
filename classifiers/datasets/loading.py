"""Images ahead of time: loaded by worker processes while the network computes, and cropped at random."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from classifiers.datasets.image_folder import FolderImages, FolderView
from classifiers.datasets.image_source import Batch, ImageSource

_BATCHES_AHEAD = 4  # per worker


def fetch_ahead(source: ImageSource, plan: Sequence[Tensor], num_workers: int, device: torch.device) -> Iterable[Batch]:
    """Fetches batches in a given order.

    Args:
        source: the images.
        plan: indices of each batch.
        num_workers: processes that fetch ahead; 0 fetches each batch when it is asked for.
        device: where the batches will go; those for a GPU come in pinned memory.

    Returns:
        The batches, in the plan's order whatever the number of workers.
    """
    if num_workers == 0:
        return (source.fetch(indices) for indices in plan)
    return DataLoader(
        _Fetcher(source),
        batch_sampler=[indices.tolist() for indices in plan],
        collate_fn=_as_it_is,
        num_workers=num_workers,
        prefetch_factor=_BATCHES_AHEAD,
        pin_memory=device.type == "cuda",
        multiprocessing_context="forkserver",
    )


class _Fetcher(Dataset[Batch]):
    """A source as a map-style data set that is asked for whole batches."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, indices: list[int]) -> Batch:
        return self._source.fetch(torch.tensor(indices))

    def __getitem__(self, index: int) -> Batch:
        return self._source.fetch(torch.tensor([index]))


def _as_it_is(batch: Any) -> Any:
    return batch


class RandomCrops(FolderView):
    """The files of a folder, each cropped anew in every epoch: torchvision's RandomResizedCrop, for training.

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
        """The same files, cropped otherwise."""
        return RandomCrops(self.source, self.scale, self.seed, epoch)

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`.

        Raises:
            UnreadableImageError: if a file can't be decoded.
        """
        crop = v2.RandomResizedCrop(self.image_size, scale=self.scale, antialias=True)
        images = []
        for index in indices.tolist():
            image = v2.functional.pil_to_tensor(self.source.open_rgb(index))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)[0]))
                images.append(crop(image))
        labels = self.source.labels[indices]
        return Batch(torch.stack(images), labels, torch.zeros(len(labels), 4, dtype=torch.int64))
