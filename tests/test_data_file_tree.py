"""Which entries of a folder count: for trees of images and of videos, and for `gfnet predict`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from classifiers.data.file_tree import class_files, find_clips, image_files
from classifiers.data.source import are_same_classes


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of images with what is found beside them on users' disks."""
    cat, dog = tmp_path / "cat", tmp_path / "dog"
    _touch(cat / "1.jpg", cat / "deep" / "er" / "2.JFIF", dog / "1.avif")
    _touch(cat / "._1.jpg", cat / ".ipynb_checkpoints" / "1.jpg", tmp_path / "__MACOSX" / "1.jpg", cat / ".DS_Store")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_hidden_entries_are_passed_over(tree: Path) -> None:
    files, labels, names = class_files(tree, "image")

    assert names == ("cat", "dog") and labels == [0, 0, 1]
    assert files == [str(tree / name) for name in ("cat/1.jpg", "cat/deep/er/2.JFIF", "dog/1.avif")]
    assert image_files(tree / "cat") == [Path(file) for file in files[:2]]


def test_links_are_followed_and_loops_end(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    _touch(outside / "3.png")
    (tree / "cat" / "linked").symlink_to(outside)
    (tree / "cat" / "twice").symlink_to(outside)
    (outside / "back").symlink_to(outside)
    (tree / "cat" / "up").symlink_to(tree)
    (tree / "cat" / "link.png").symlink_to(tree / "dog" / "1.avif")

    files, labels, _ = class_files(tree, "image")

    assert [file.removeprefix(str(tree)) for file in files[:-1]] == [
        *("/cat/1.jpg", "/cat/deep/er/2.JFIF", "/cat/link.png", "/cat/linked/3.png")
    ]
    assert labels == [0] * 4 + [1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_useless_entries_are_counted_and_reported_once(tree: Path) -> None:
    _touch(tree / "cat" / "a.txt", tree / "dog" / "b.txt", tree / "dog" / "README")
    (tree / "dog" / "gone.jpg").symlink_to(tree / "nowhere")
    (tree / "dog" / "self.jpg").symlink_to(tree / "dog" / "self.jpg")
    os.mkfifo(tree / "dog" / "pipe.jpg")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        files, _, _ = class_files(tree, "image")

    assert len(files) == 3 and len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith(f"{tree}: ")
    for part in ("2 .txt", "1 without ending", "2 broken links", "1 special files"):
        assert part in message


def test_clips_are_videos_and_folders_of_frames(tree: Path) -> None:
    _touch(tree / "dog" / "clip.mp4")

    assert find_clips(tree) == [tree / "cat", tree / "cat" / "deep" / "er", tree / "dog", tree / "dog" / "clip.mp4"]


def test_a_split_may_lack_classes_and_has_no_others(tree: Path) -> None:
    files, labels, names = class_files(tree, "image", ("ant", "cat", "dog"))

    assert names == ("ant", "cat", "dog") and labels == [1, 1, 2] and len(files) == 3
    with pytest.raises(ValueError, match="'dog'"):
        class_files(tree, "image", ("ant", "cat"))


def test_names_decide_which_classes_are_the_same() -> None:
    counted = tuple(map(str, range(11)))

    assert are_same_classes(counted, counted)
    assert are_same_classes(counted, tuple("abcdefghijk"))  # a classifier without names
    assert not are_same_classes(tuple(sorted(counted)), counted) and not are_same_classes(
        counted, tuple(sorted(counted))
    )
    assert not are_same_classes(("a", "b"), ("0", "1")) and not are_same_classes(("0", "1"), ("a", "b", "c"))
