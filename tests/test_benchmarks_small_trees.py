"""The small trees that the config `image_folder` is tried on."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import small_trees
from PIL import Image


def _made(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> Counter[tuple[str, str]]:
    monkeypatch.setattr(sys, "argv", ["small_trees.py", *map(str, words)])
    small_trees.main()
    return Counter((file.parent.parent.name, file.parent.name) for file in Path(words[-1]).rglob("*.jpg"))


def test_every_split_has_shapes_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_trees, "COUNTS", {"shapes": (6, 3, 3)})
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{number}.png")

    counts = _made(monkeypatch, "shapes", tmp_path / "photos", tmp_path / "tree")

    expected = {"train": 2, "val": 1, "test": 1}
    assert counts == {(split, kind): n for split, n in expected.items() for kind in small_trees.SHAPES}
    monkeypatch.setattr(small_trees, "COUNTS", {"shapes": (20, 3, 3)})
    with pytest.raises(SystemExit, match="holds 12 photos; 26 are needed"):
        _made(monkeypatch, "shapes", tmp_path / "photos", tmp_path / "other")


def test_digits_come_in_ten_kinds_and_are_drawn_again_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_trees, "COUNTS", {"digits": (10, 10, 10)})

    counts = _made(monkeypatch, "digits", tmp_path / "tree")

    assert counts == {(split, str(digit)): 1 for split in ("train", "val", "test") for digit in range(10)}
    _made(monkeypatch, "digits", tmp_path / "again")
    files = [next((tmp_path / name / "val" / "3").iterdir()).read_bytes() for name in ("tree", "again")]
    assert files[0] == files[1]


def test_signs_of_one_scene_are_in_one_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, rows = tmp_path / "frames", []
    (frames / "train" / "stop").mkdir(parents=True)
    for scene in range(5):
        for sign in range(2):
            name = f"train/stop/{scene:05d}_{sign}_0.jpg"
            Image.new("RGB", (64, 48), (40 * scene, 0, 0)).save(frames / name)  # told by their red
            rows.append({"file": name, "x": 20, "y": 10, "w": 12, "h": 12})
    with (frames / "boxes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "x", "y", "w", "h"])
        writer.writeheader()
        writer.writerows(rows)

    counts = _made(monkeypatch, "signs", frames, tmp_path / "tree")

    assert sum(counts.values()) == 10
    splits: dict[int, set[str]] = {}
    for file in (tmp_path / "tree").rglob("*.jpg"):
        with Image.open(file) as image:
            side, red = image.width, round(image.getpixel((image.width // 2, image.height // 2))[0] / 40)  # type: ignore[index]  # RGB
        assert 15 <= side <= 24
        splits.setdefault(red, set()).add(file.parent.parent.name)
    assert {len(each) for each in splits.values()} == {1}
    assert set.union(*splits.values()) == {"train", "val", "test"}
