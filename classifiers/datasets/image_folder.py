"""Images from the user's own data: a tree with one folder per class, or any map-style torch data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import get_worker_info

from classifiers.datasets.image_source import ArrayImages, Batch

_T = TypeVar("_T")

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"})
"""File endings, in lower case, that count as images."""

UNREADABLE = ("refuse", "skip")
"""What to do with a file that can't be decoded: stop and name it, or leave it out and count it."""

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
"""How files are scaled, by name."""


class UnreadableImageError(ValueError):
    """An image file could not be decoded."""


@dataclass(frozen=True)
class FolderImages:
    """A tree with one folder per class; images are decoded when they are fetched, by one thread per core.

    Greyscale, palette, CMYK and transparent images become RGB. Each is scaled to cover the wanted size, then cropped.

    Attributes:
        files: paths of the images, class by class.
        labels: (N,) int64.
        class_names: folder names in alphabetical order, as torchvision's ImageFolder numbers them.
        image_size: (H, W) in pixels.
        centre_share: share of each side that the centre crop keeps; 0.875 is ImageNet's (224 of 256).
        interpolation: how files are scaled, one of `INTERPOLATIONS`.
        num_skipped: unreadable files that were left out.
    """

    files: tuple[Path, ...]
    labels: Tensor
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    centre_share: float = 1.0
    interpolation: str = "bilinear"
    num_skipped: int = 0

    @classmethod
    def open(
        cls,
        root: Path,
        image_size: tuple[int, int],
        *,
        unreadable: str = "refuse",
        centre_share: float = 1.0,
        interpolation: str = "bilinear",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> FolderImages:
        """Finds the images of a tree.

        Args:
            root: folder with one folder per class.
            image_size: (H, W) in pixels to which images are brought.
            unreadable: `"refuse"`: a file that can't be decoded raises when it is fetched; `"skip"`: all files are
                decoded now, and those that can't be are left out and counted.
            centre_share: see the class.
            interpolation: see the class.
            on_progress: told of (files checked, files in all) if `unreadable` is `"skip"`.

        Returns:
            The images.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: if it holds fewer than two classes, or a class without an image.
        """
        if unreadable not in UNREADABLE:
            raise ValueError(f"unreadable={unreadable!r} is unknown; pass one of {', '.join(UNREADABLE)}")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation={interpolation!r} is unknown; pass one of {', '.join(INTERPOLATIONS)}")
        if min(image_size) < 1 or not 0 < centre_share <= 1:
            raise ValueError(
                f"image_size={image_size}, centre_share={centre_share}; pass positive pixels and a share in (0, 1]"
            )
        by_class = _images_by_class(root)
        files = tuple(file for of_class in by_class.values() for file in of_class)
        labels = [label for label, of_class in enumerate(by_class.values()) for _ in of_class]
        source = cls(files, torch.tensor(labels), tuple(by_class), image_size, centre_share, interpolation)
        return source._without_unreadable(on_progress) if unreadable == "skip" else source

    def __len__(self) -> int:
        return len(self.files)

    def fetch(self, indices: Tensor) -> Batch:
        """See `classifiers.datasets.image_source.ImageSource.fetch`.

        Raises:
            UnreadableImageError: if a file can't be decoded.
        """
        return self.batch(list(map_threads(self.decode, indices.tolist())), indices)

    def batch(self, images: Sequence[np.ndarray], indices: Tensor) -> Batch:
        """Decoded images, (H, W, 3) uint8 each, at their (B,) indices, as a batch."""
        return _batch(np.stack(images), self.labels[indices])

    def decode(self, index: int) -> np.ndarray:
        """One image, (H, W, 3) uint8.

        Raises:
            UnreadableImageError: if the file can't be decoded.
        """
        return decode_image(self.files[index], self.image_size, self.centre_share, self.interpolation)

    def open_rgb(self, index: int) -> Image.Image:
        """One image in RGB at the size that it has on disk.

        Raises:
            UnreadableImageError: if the file can't be decoded.
        """
        return _opened(self.files[index], _to_rgb)

    def first(self, count: int | None) -> FolderImages:
        """At most `count` of the images, spread evenly over the classes; all of them if None."""
        if count is None or count >= len(self):
            return self
        kept = torch.linspace(0, len(self) - 1, count).round().long()
        return replace(self, files=tuple(self.files[i] for i in kept.tolist()), labels=self.labels[kept])

    def _without_unreadable(self, on_progress: Callable[[int, int], None] | None) -> FolderImages:
        def is_readable(index: int) -> bool:
            try:
                self.decode(index)
            except UnreadableImageError:
                return False
            return True

        good = []
        for index, readable in enumerate(map_threads(is_readable, range(len(self)))):
            if readable:
                good.append(index)
            if on_progress is not None:
                on_progress(index + 1, len(self))
        kept = replace(
            self,
            files=tuple(self.files[i] for i in good),
            labels=self.labels[good],
            num_skipped=len(self) - len(good),
        )
        for label, name in enumerate(self.class_names):
            if not (kept.labels == label).any():
                raise ValueError(f"class {name!r} holds no readable image; add some or remove its folder")
        return kept


class FolderView:
    """A folder's images, fetched in another way.

    Args:
        source: the files.
    """

    def __init__(self, source: FolderImages) -> None:
        self.source = source

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `ImageSource.class_names`."""
        return self.source.class_names

    @property
    def image_size(self) -> tuple[int, int]:
        """See `ImageSource.image_size`."""
        return self.source.image_size

    def __len__(self) -> int:
        return len(self.source)


class _MapStyle(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class DatasetImages:
    """Any map-style torch data set of (image, label).

    Args:
        dataset: images as PIL images, or (3, H, W) or (1, H, W) tensors, uint8 or floats in [0, 1]; labels as whole
            numbers. Class names are taken from its attribute `classes` if it has one.
        image_size: (H, W) in pixels to which images are brought.

    Raises:
        ValueError: if the data set is empty, or has no `classes` and too many labels to look at.
    """

    def __init__(self, dataset: _MapStyle, image_size: tuple[int, int]) -> None:
        if len(dataset) == 0:
            raise ValueError("the data set holds no image; pass one with at least one")
        self.dataset = dataset
        self.image_size = image_size
        self.class_names = _dataset_classes(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def fetch(self, indices: Tensor) -> Batch:
        """See `classifiers.datasets.image_source.ImageSource.fetch`."""
        items = [self.dataset[i] for i in indices.tolist()]
        images = np.stack([_fit(_as_pil(image), self.image_size, 1.0, "bilinear") for image, _ in items])
        labels = torch.tensor([int(label) for _, label in items])
        if ((labels < 0) | (labels >= len(self.class_names))).any():
            raise ValueError(
                f"a label is outside 0 to {len(self.class_names) - 1}; give the data set a full `classes` attribute"
            )
        return _batch(images, labels)


def in_memory(
    source: FolderImages | DatasetImages, on_progress: Callable[[int, int], None] | None = None
) -> ArrayImages:
    """Decodes a source once and keeps the pixels.

    Args:
        source: the images.
        on_progress: told of (images done, images in all).

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
    return ArrayImages(images, labels, boxes, source.class_names)


def _images_by_class(root: Path) -> dict[str, list[Path]]:
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; pass a tree that holds it, with one folder per class inside")
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(
            f"{root} holds {len(classes)} class folders; pass a tree with one folder per class, two or more"
        )
    by_class = {path.name: sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS) for path in classes}
    for name, files in by_class.items():
        if not files:
            raise ValueError(
                f"class folder {root / name} holds no image; add some ({', '.join(sorted(EXTENSIONS))}) or remove it"
            )
    return by_class


def map_threads(function: Callable[[int], Any], indices: Iterable[int]) -> Iterable[Any]:
    """The function's results, in order, computed by one thread for each core; in a worker process by that alone.

    Decoding releases the interpreter lock, so threads are enough.

    Args:
        function: of an index; must not touch what threads share.
        indices: in the order of the results.

    Yields:
        The results.
    """
    if get_worker_info() is not None:
        yield from map(function, indices)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(function, indices)


def decode_image(
    path: Path, size: tuple[int, int], centre_share: float = 1.0, interpolation: str = "bilinear"
) -> np.ndarray:
    """Reads an image file in RGB: scaled to cover the size, then cropped.

    Args:
        path: the file.
        size: (H, W) in pixels.
        centre_share: share of each side that the centre crop keeps.
        interpolation: how it is scaled, one of `INTERPOLATIONS`.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UnreadableImageError: if it can't be decoded.
    """

    def fit(image: Image.Image) -> np.ndarray:
        image.draft("RGB", (2 * size[1], 2 * size[0]))  # lets JPEG skip detail that the scaling would drop
        return _fit(image, size, centre_share, interpolation)

    return _opened(path, fit)


def _opened(path: Path, use: Callable[[Image.Image], _T]) -> _T:
    try:
        with Image.open(path) as image:
            return use(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(
            f"{path} can't be decoded ({error}); remove it, or set unreadable to 'skip'"
        ) from error


def _fit(image: Image.Image, size: tuple[int, int], centre_share: float, interpolation: str) -> np.ndarray:
    """(H, W, 3) uint8: scaled to cover, centre-cropped."""
    rgb = _to_rgb(image)
    border = 0.5 * (1.0 - centre_share)
    return np.asarray(ImageOps.fit(rgb, (size[1], size[0]), INTERPOLATIONS[interpolation], bleed=border))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Transparent images lie on white, as a viewer shows them."""
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode.startswith("I"):  # 16 or 32 bits a pixel; convert() would cut, not scale
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _as_pil(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] not in (1, 3):
        got = f"a tensor of shape {tuple(image.shape)}" if isinstance(image, Tensor) else f"a {type(image).__name__}"
        raise ValueError(f"the data set gave {got} as image; pass PIL images or (3, H, W) tensors")
    if image.is_floating_point():
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(
                "the data set gave a float image outside [0, 1]; pass it without normalisation, or as uint8"
            )
        image = (image * 255.0).round()
    return Image.fromarray(image.to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


def _batch(images: np.ndarray, labels: Tensor) -> Batch:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Batch(pixels, labels, torch.zeros(len(labels), 4, dtype=torch.int64))


def _dataset_classes(dataset: _MapStyle) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None)
    if names is not None:
        return tuple(str(name) for name in names)
    targets = getattr(dataset, "targets", None)
    if targets is None and len(dataset) > 50_000:
        raise ValueError(
            "the data set has neither `classes` nor `targets`; give it an attribute `classes` with the names"
        )
    labels = targets if targets is not None else [dataset[i][1] for i in range(len(dataset))]
    return tuple(str(label) for label in range(max(int(label) for label in labels) + 1))
