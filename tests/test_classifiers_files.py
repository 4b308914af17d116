"""Files that are written whole, temporary files that killed writers left, and valid JSON."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from full_disk import file_size_limit

from classifiers.files import (
    json_text,
    non_finite_as_null,
    remove_abandoned,
    write_atomically,
    write_json,
    write_text,
    write_torch,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def fail(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, fail)
    assert caught.value.filename == str(path)
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_written_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "file.txt", "grüß\n")

    assert (tmp_path / "new" / "file.txt").read_text(encoding="utf-8") == "grüß\n"
    assert (tmp_path / "new" / "file.txt").stat().st_mode & 0o777 == 0o644


def test_names_may_be_as_long_as_the_folder_allows(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "text")

    assert (tmp_path / ("x" * 255)).read_text() == "text"


def _write_for_long(path: Path, started: Any) -> None:
    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        stream.flush()
        started.set()
        time.sleep(600)

    write_atomically(path, write)


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    started = context.Event()
    writer = context.Process(target=_write_for_long, args=(tmp_path / "state.pt", started))
    writer.start()
    assert started.wait(60)
    foreign = tmp_path / ".other.tmp"
    foreign.write_text("not ours")

    write_text(tmp_path / "other.txt", "text")
    assert len(list(tmp_path.glob(".gfnet-*.tmp"))) == 1
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    write_text(tmp_path / "other.txt", "text")

    assert sorted(tmp_path.iterdir()) == [foreign, tmp_path / "other.txt"]


def test_abandoned_files_are_found_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "stage1").mkdir()
    left = tmp_path / "stage1" / ".gfnet-abcd.tmp"
    left.write_bytes(b"half")

    remove_abandoned(tmp_path)
    assert left.exists()
    remove_abandoned(tmp_path, recursive=True)
    assert not left.exists()


@pytest.mark.parametrize("numbers", [10, 100_000])
def test_a_full_disk_inside_torch_save_is_told_as_such(numbers: int, tmp_path: Path) -> None:
    with file_size_limit(100), pytest.raises(OSError, match="File too large") as caught:
        write_torch(tmp_path / "training.pt", {"weights": torch.zeros(numbers)})
    assert caught.value.filename == str(tmp_path / "training.pt")
    assert not list(tmp_path.iterdir())
    write_torch(tmp_path / "training.pt", {"weights": torch.ones(numbers)})
    assert torch.load(tmp_path / "training.pt", weights_only=True)["weights"].sum() == numbers


def test_json_holds_no_nan_and_says_where_one_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^a\[1\]\.b is nan, which JSON can't hold"):
        json_text({"a": [1.0, {"b": math.nan}]})
    with pytest.raises(ValueError, match="the content is inf"):
        write_json(tmp_path / "a.json", math.inf)
    assert not list(tmp_path.iterdir())
    content = {"a": (1.5, -math.inf), "b": {"c": math.nan, "d": "NaN"}}
    assert json.loads(json_text(non_finite_as_null(content))) == {"a": [1.5, None], "b": {"c": None, "d": "NaN"}}
