"""Real photos that come inside installed packages, labelled with ImageNet's classes: enough to try an environment.

Only photos are taken that show the thing of their class beyond doubt; there is none of most classes.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from classifiers.data.collection import FileCollection
from classifiers.data.folder import FolderImages
from classifiers.data.path_list import PathList
from classifiers.networks.imagenet_classes import imagenet_ids

_PHOTOS = (
    ("skimage", "data/chelsea.png", "n02123045"),  # tabby
    ("skimage", "data/coffee.png", "n07920052"),  # espresso
    ("skimage", "data/camera.png", "n04485082"),  # tripod
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "n03763968"),  # military uniform
    ("sklearn", "datasets/images/china.jpg", "n03877845"),  # palace
)
"""Package, file in it, WordNet id. scikit-learn is no dependency: its photo is there where it is installed."""


@dataclass(frozen=True, kw_only=True)
class SamplePhotos(FileCollection):
    """The photos of the packages that are installed, with ImageNet's 1,000 classes; every split holds all of them."""

    def class_names(self) -> tuple[str, ...]:
        """See `ImageCollection.class_names`; WordNet ids."""
        return imagenet_ids()

    def files(self, split: str) -> FolderImages:
        """See `FileCollection.files`."""
        found = [(path, label) for package, name, label in _PHOTOS if (path := _file(package, name)).is_file()]
        if not found:
            raise FileNotFoundError("scikit-image and matplotlib are installed without their photos; pass root= a tree")
        return FolderImages(
            PathList.of("", (str(path) for path, _ in found)),
            torch.tensor([imagenet_ids().index(label) for _, label in found]),
            imagenet_ids(),
            self.image_size,
            self.crop_pct,
            self.interpolation,
        )

    def calibration_split(self, reported: str) -> str:
        """See `ImageCollection.calibration_split`; there are no other photos than those that are reported on."""
        return reported


def _file(package: str, name: str) -> Path:
    """A file of a package, which is not imported; a path where nothing is if there is no such package."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent / name if spec is not None and spec.origin else Path(package, name)
