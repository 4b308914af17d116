"""The trees of the configs `traffic_signs` and `road_scenes`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import kept_runs
import pytest
import street_tree
from PIL import Image

from agents.runs.config_files import load_config
from classifiers.data.groups import match_groups, read_groups, refuse_shared_groups


def _clone(folder: Path) -> Path:
    """Two pictures that are red on the left and blue on the right."""
    for name in ("00001.jpg", "00002.jpg"):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (100, 80), (255, 0, 0))
        image.paste((0, 0, 255), (50, 0, 100, 80))
        image.save(folder / "images" / name)
    return folder


def _made(monkeypatch: pytest.MonkeyPatch, table: str, clone: Path, tree: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["street_tree.py", table, str(clone), str(tree)])
    street_tree.main()


def test_windows_are_cut_and_boxes_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "windows.csv").write_text(
        "file,source,x,y,width,height,box_x,box_y,box_w,box_h\n"
        "train/stop/00001_0_0.jpg,00001.jpg,60,10,32,24,4,5,6,7\ntest/none/00002.jpg,00002.jpg,0,0,32,24,,,,\n"
    )
    monkeypatch.setattr(street_tree, "TABLES", tmp_path)

    _made(monkeypatch, "windows", _clone(tmp_path / "clone"), tmp_path / "tree")

    with Image.open(tmp_path / "tree" / "train" / "stop" / "00001_0_0.jpg") as image:
        color = image.getpixel((16, 12))
        assert image.size == (32, 24)
    assert isinstance(color, tuple) and color[2] > 200 > 50 > color[0]
    boxes = (tmp_path / "tree" / "boxes.csv").read_text()
    assert boxes == "file,x,y,w,h\ntrain/stop/00001_0_0.jpg,4,5,6,7\n"
    assert not (tmp_path / "tree" / "groups.csv").exists()


def test_whole_pictures_are_copied_with_their_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole.csv").write_text(
        "file,source,box_x,box_y,box_w,box_h,group\n"
        "train/20/00001.jpg,00001.jpg,1,2,3,4,7\ntest/20/00002.jpg,00002.jpg,1,2,3,4,8\n"
    )
    monkeypatch.setattr(street_tree, "TABLES", tmp_path)
    clone = _clone(tmp_path / "clone")

    _made(monkeypatch, "whole", clone, tmp_path / "tree")

    copy = tmp_path / "tree" / "test" / "20" / "00002.jpg"
    assert copy.read_bytes() == (clone / "images" / "00002.jpg").read_bytes()
    assert read_groups(tmp_path / "tree" / "groups.csv")[str(copy)] == "8"
    (clone / "images" / "00002.jpg").unlink()
    with pytest.raises(SystemExit):
        _made(monkeypatch, "whole", clone, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("table", "count"), [("german_signs", 1852), ("road_scenes", 819)])
def test_no_group_of_a_table_is_in_two_splits(table: str, count: int) -> None:
    with (street_tree.TABLES / f"{table}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    files = {
        split: [row["file"] for row in rows if row["file"].startswith(split)] for split in ("train", "val", "test")
    }

    groups = {row["file"]: row["group"] for row in rows if "group" in row}
    if not groups:
        pattern = load_config("traffic_signs", ["data.root=tree"]).data.groups
        groups = match_groups(pattern, files, Path())

    assert len(rows) == len(groups) == sum(map(len, files.values())) == count
    refuse_shared_groups(files, groups, table)


def test_intervals_take_groups_from_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg"):
        (tmp_path / "test" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "test" / name)
    (tmp_path / "groups.csv").write_text("file,group\ntest/a/1.jpg,x\ntest/b/3.jpg,x\n")
    config = load_config("image_folder", [f"data.root={tmp_path}", "data.height=64", "data.width=64"])

    assert kept_runs.image_groups(config, ("a", "b")) == [0, 1, 0]
