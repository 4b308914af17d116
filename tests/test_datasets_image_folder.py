from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from classifiers.data.decoding import UnreadableImageError
from classifiers.data.folder import FolderImages
from classifiers.data.registry import ImageFolder


def _save(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def _red(size: tuple[int, int] = (20, 20)) -> Image.Image:
    return Image.new("RGB", size, (200, 30, 40))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        for index in range(3):
            _save(tmp_path / name / f"{index}.png", _red())
    return tmp_path


def test_classes_are_the_folders_in_alphabetical_order(tree: Path) -> None:
    _save(tree / "ant" / "deep" / "er" / "x.JPG", _red())
    (tree / ".hidden").mkdir()

    source = FolderImages.open(tree, (8, 8))

    assert source.class_names == ("ant", "cat", "dog")
    assert source.labels.tolist() == [0, 1, 1, 1, 2, 2, 2]


def test_images_are_scaled_to_cover_and_center_cropped(tree: Path) -> None:
    wide = Image.new("RGB", (40, 10), (0, 0, 0))
    wide.paste((255, 255, 255), (15, 0, 25, 10))
    _save(tree / "cat" / "0.png", wide)

    batch = FolderImages.open(tree, (10, 10)).fetch(torch.tensor([0]))

    assert batch.images.shape == (1, 3, 10, 10)
    assert (batch.images == 255).all()


def test_crop_pct_crops_as_imagenet_does(tree: Path) -> None:
    framed = Image.new("RGB", (256, 256), (0, 0, 0))
    framed.paste((255, 255, 255), (16, 16, 240, 240))
    _save(tree / "cat" / "0.png", framed)

    batch = FolderImages.open(tree, (224, 224), crop_pct=0.875).fetch(torch.tensor([0]))

    assert (batch.images == 255).all()


def test_what_is_missing_is_said(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        FolderImages.open(tmp_path / "nowhere", (8, 8))
    (tree / "eel").mkdir()
    with pytest.raises(ValueError, match="eel"):
        FolderImages.open(tree, (8, 8))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="empty"):
        FolderImages.open(empty, (8, 8))
    with pytest.raises(ValueError, match="unreadable"):
        ImageFolder(root=tree, unreadable="ignore")


@pytest.mark.parametrize("length", [0, 60])
def test_unreadable_images_are_refused_by_name_or_skipped_and_counted(tree: Path, length: int) -> None:
    (tree / "cat" / "9.jpg").write_bytes((tree / "cat" / "1.png").read_bytes()[:length])

    strict = FolderImages.open(tree, (8, 8))
    with pytest.raises(UnreadableImageError, match=r"cat/9\.jpg"):
        strict.fetch(torch.tensor([3]))
    news: list[tuple[int, int]] = []
    lenient = strict.without_unreadable(lambda *n: news.append(n))

    assert lenient.num_skipped == 1 and len(lenient) == 6
    assert news[-1] == (7, 7)
    assert lenient.fetch(torch.arange(6)).labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_class_left_without_a_readable_image_is_refused(tree: Path) -> None:
    for path in (tree / "dog").iterdir():
        path.write_text("broken")

    with pytest.raises(ValueError, match="'dog'"):
        FolderImages.open(tree, (8, 8)).without_unreadable()


def test_first_takes_from_every_class(tree: Path) -> None:
    source = FolderImages.open(tree, (8, 8))

    assert source.first(4).labels.tolist() == [0, 0, 1, 1]
    assert source.first(None) is source and source.first(99) is source


def test_files_are_scaled_as_asked(tree: Path) -> None:
    rng = np.random.default_rng(0)
    _save(tree / "cat" / "0.png", Image.fromarray(rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)))

    soft, sharp = (
        FolderImages.open(tree, (20, 20), interpolation=name).fetch(torch.tensor([0])).images
        for name in ("bilinear", "bicubic")
    )

    with Image.open(tree / "cat" / "0.png") as image:
        expected = np.asarray(image.resize((20, 20), Image.Resampling.BICUBIC))
    assert np.array_equal(sharp[0].permute(1, 2, 0).numpy(), expected) and not torch.equal(soft, sharp)
    with pytest.raises(ValueError, match="interpolation"):
        ImageFolder(root=tree, interpolation="nearest")
