"""Files that are written whole, temporary files that killed writers left, and valid JSON."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pytest
import torch
from full_disk import file_size_limit

from classifiers.files import json_text, remove_temporary, write_bytes, write_json, write_text
from classifiers.tensor_files import read_torch, write_torch


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    write_torch(path, {"weights": torch.ones(10)})

    with file_size_limit(100), pytest.raises(OSError, match="File too large") as caught:
        write_torch(path, {"weights": torch.zeros(10)})

    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path]
    assert read_torch(path)["weights"].sum() == 10


def test_what_can_not_be_replaced_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)

    with pytest.raises(OSError, match="folder") as caught:
        write_bytes(tmp_path / "folder", b"text")

    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "folder"), None)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_text_is_written_whole_under_any_name(tmp_path: Path) -> None:
    for name in ("file.txt", "x" * 255):
        write_text(tmp_path / "new" / name, "grüß\n")

        assert (tmp_path / "new" / name).read_text(encoding="utf-8") == "grüß\n"
        assert (tmp_path / "new" / name).stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_what_killed_writers_left_is_removed_a_day_later_or_on_request(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    old, new, inside = (tmp_path / name for name in (".gfnet-0.tmp", ".gfnet-1.tmp", "inside/.gfnet-2.tmp"))
    for path in (old, new, inside, tmp_path / "mine.tmp"):
        path.touch()
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))

    write_text(tmp_path / "file.txt", "text")
    assert [path.exists() for path in (old, new, inside)] == [False, True, True]
    remove_temporary(tmp_path)
    assert [path.exists() for path in (new, inside)] == [False, True]
    remove_temporary(tmp_path, recursive=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.txt", "inside", "mine.tmp"]


def test_json_holds_null_for_what_is_no_number(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": (1.5, -math.inf), "b": {"c": math.nan, "d": "NaN"}})

    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None], "b": {"c": None, "d": "NaN"}}
    assert json_text([1, True]) == "[1, true]"
