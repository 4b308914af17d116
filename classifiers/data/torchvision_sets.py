"""Data sets of torchvision by name, with their official splits."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import platformdirs
import torch
import torchvision
from filelock import FileLock
from torch import Tensor

from classifiers.data.collection import FileCollection
from classifiers.data.folder import FolderImages, encode_paths
from classifiers.data.source import default_class_names
from classifiers.settings import UserPath, one_of

VAL_SHARE = 0.1
"""Share of the training images of every class that is set aside where a data set has no validation split."""


@dataclass(frozen=True)
class TorchvisionSet:
    """How a data set of torchvision is read.

    Attributes:
        folder: where torchvision keeps it, inside its `root`.
        splits: torchvision's names of our splits; without `"val"`, it is cut from the training images.
        arguments: further arguments of torchvision's class.
        class_names: names of the classes of torchvision's data set, by label.
        group: what a file belongs to that must not be divided between training and validation; itself, if nothing.
    """

    folder: str
    splits: Mapping[str, str]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    class_names: Callable[[Any], Sequence[str]] = lambda dataset: dataset.classes
    group: Callable[[str], str] = lambda file: file


def _imagenette(folder: str, size: str) -> TorchvisionSet:
    splits = {"train": "train", "test": "val"}
    return TorchvisionSet(folder, splits, {"size": size}, class_names=lambda dataset: dataset.wnids)


TORCHVISION_SETS: dict[str, TorchvisionSet] = {
    "Imagenette": _imagenette("imagenette2", "full"),
    "Imagenette-320px": _imagenette("imagenette2-320", "320px"),
    "Imagenette-160px": _imagenette("imagenette2-160", "160px"),
    "GTSRB": TorchvisionSet(
        "gtsrb",
        {"train": "train", "test": "test"},
        class_names=lambda _: default_class_names(43),
        group=lambda file: file.rpartition("_")[0],  # `00000_00029.ppm` is frame 29 of the first sign of its class
    ),
    "Flowers102": TorchvisionSet("flowers-102", {"train": "train", "val": "val", "test": "test"}),
    "OxfordIIITPet": TorchvisionSet("oxford-iiit-pet", {"train": "trainval", "test": "test"}),
    "Food101": TorchvisionSet("food-101", {"train": "train", "test": "test"}),
    "FGVCAircraft": TorchvisionSet("fgvc-aircraft-2013b", {"train": "train", "val": "val", "test": "test"}),
    "StanfordCars": TorchvisionSet("stanford_cars", {"train": "train", "test": "test"}),
}
"""Data sets by name: that of torchvision's class and, after a hyphen, a size. Imagenette's classes are WordNet ids."""


class TorchvisionImages(FileCollection):
    """A data set of torchvision, downloaded on first use; later, and without a network, its folder is read.

    `"test"` is what the data set's authors report on. Where they give no validation split, `VAL_SHARE` of the training
    images are set aside for it.

    Attributes:
        name: a key of `TORCHVISION_SETS`.
        root: the folder that holds torchvision's data sets; None takes one in the user's cache folder.
    """

    kind: Literal["torchvision"] = "torchvision"
    name: Annotated[str, one_of(TORCHVISION_SETS)]
    root: UserPath | None = None

    def class_names(self) -> tuple[str, ...] | None:
        dataset = self._found("train")
        return None if dataset is None else self._names(dataset)

    def files(self, split: str) -> FolderImages:
        entry = self._entry
        is_cut = "val" not in entry.splits
        dataset = self._dataset("train" if is_cut and split == "val" else split)
        names, labels = _samples(dataset)
        images = FolderImages(
            files=encode_paths(names), labels=torch.tensor(labels), class_names=self._names(dataset), **self.fit
        )
        if not is_cut or split == "test":
            return images
        aside = held_out(images.labels, [entry.group(name) for name in names], VAL_SHARE)
        return images.only((aside if split == "val" else ~aside).nonzero().flatten())

    @property
    def _entry(self) -> TorchvisionSet:
        return TORCHVISION_SETS[self.name]

    @property
    def _root(self) -> Path:
        return default_root() if self.root is None else self.root

    @property
    def _place(self) -> Path:
        return self._root / self._entry.folder

    def _names(self, dataset: Any) -> tuple[str, ...]:
        return tuple(map(str, self._entry.class_names(dataset)))

    def _dataset(self, split: str) -> Any:
        """Torchvision's data set, downloaded if it is not there."""
        found = self._found(split)
        if found is None:
            self._download(split)
            found = self._opened(split, self._root)
        return found

    def _found(self, split: str) -> Any:
        """Torchvision's data set; None if it is not there."""
        try:
            return self._opened(split, self._root)
        except RuntimeError:  # torchvision's for a data set that is not there
            return None
        except (OSError, KeyError, ValueError) as error:
            raise FileNotFoundError(
                f"{self.name} in {self._place} is incomplete ({error}); remove that folder to have it downloaded again"
            ) from error

    def _opened(self, split: str, root: Path, *, download: bool = False) -> Any:
        kind = getattr(torchvision.datasets, self.name.partition("-")[0])
        return kind(root, split=self._entry.splits[split], download=download, **self._entry.arguments)

    def _download(self, split: str) -> None:
        """Downloads beside its place and moves it there when it is whole; other processes wait meanwhile."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with FileLock(self._root / f".{self._entry.folder}.lock"):
                if self._found(split) is not None:
                    return
                with tempfile.TemporaryDirectory(prefix=".download-", dir=self._root) as beside:
                    self._opened(split, Path(beside), download=True)
                    shutil.copytree(  # into what another split has left there, without its archives
                        Path(beside) / self._entry.folder,
                        self._place,
                        ignore=shutil.ignore_patterns("*.zip", "*.tgz", "*.tar.gz"),
                        copy_function=os.replace,
                        dirs_exist_ok=True,
                    )
        except (OSError, RuntimeError, ValueError) as error:
            raise FileNotFoundError(
                f"{self.name} is not in {self._place} and can't be downloaded ({error}); connect to a network once, or "
                "pass root= the folder that holds torchvision's data sets"
            ) from error


def held_out(labels: Tensor, groups: Sequence[Hashable], share: float) -> Tensor:
    """(N,) bool: the images to set aside, always the same ones, for labels (N,).

    It is the same share of the groups of every class, rounded, and at least one if there is another. Groups, such as
    the frames of one sign, are not divided.
    """
    rng = np.random.default_rng(0)  # the same images for every run, whatever its seed
    chosen: set[tuple[int, Hashable]] = set()
    keys = list(zip(labels.tolist(), groups, strict=True))
    by_class: dict[int, dict[Hashable, None]] = {}  # a dict keeps the order, a set does not
    for label, group in keys:
        by_class.setdefault(label, {})[group] = None
    for label in sorted(by_class):
        of_class = list(by_class[label])
        count = min(max(1, round(share * len(of_class))), len(of_class) - 1)
        chosen |= {(label, of_class[index]) for index in rng.permutation(len(of_class))[:count]}
    return torch.tensor([key in chosen for key in keys])


def default_root() -> Path:
    """Where downloaded data sets are kept: in `$GFNET_CACHE`, else in the user's cache folder."""
    return Path(os.environ.get("GFNET_CACHE") or platformdirs.user_cache_dir("gfnet-gym")) / "torchvision"


def _samples(dataset: Any) -> tuple[list[str], list[int]]:
    """Files and labels of torchvision's data set, under the names that its classes have for them."""
    if hasattr(dataset, "_samples"):
        files, labels = zip(*dataset._samples, strict=True)
    else:
        files, labels = dataset._images if hasattr(dataset, "_images") else dataset._image_files, dataset._labels
    return [os.fspath(file) for file in files], [int(label) for label in labels]
