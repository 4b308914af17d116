"""A disk that is full or can't be written: one sentence that names the file, and all that was there stays whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINIER
from full_disk import file_size_limit
from PIL import Image

from agents.runs.folder import read_metrics
from classifiers.data.drawings import load_scenes
from classifiers.data.synthetic_signs.scenes import SceneSpec
from scripts.cli import main
from scripts.episodes import save_gif, save_png
from scripts.plots import save_figure


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _error(capsys: pytest.CaptureFixture[str], size: int | None, *arguments: object) -> str:
    """What a command prints that fails, because files can't have more than so many bytes or for another reason."""
    words = list(map(str, arguments))
    if size is None:
        code = main(words)
    else:
        with file_size_limit(size):
            code = main(words)
    error = capsys.readouterr().err
    assert code == 1 and error.count("\n") == 1, error
    return error


def test_pictures_and_plots_are_whole_or_named(tmp_path: Path) -> None:
    """Pillow would write to the file's number by itself, and call a full disk "encoder error -2"."""
    from matplotlib.figure import Figure

    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    writers: dict[str, Callable[[Path], object]] = {
        "a.png": lambda path: save_png(path, Image.fromarray(pixels)),
        "a.gif": lambda path: save_gif(path, [pixels, pixels[::-1]]),
        "plot.png": lambda path: save_figure(path, Figure()),
    }
    for name, write in writers.items():
        path = tmp_path / name
        write(path)
        before = _files(tmp_path)
        with file_size_limit(200), pytest.raises(OSError, match="File too large") as error:
            write(path)
        assert error.value.filename == str(path)
        assert _files(tmp_path) == before


@pytest.mark.parametrize("is_full", [True, False])
def test_a_cache_that_can_not_be_written_is_a_warning_once(
    is_full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, blocked = SceneSpec(height=32, width=40, min_sign_px=10, max_sign_px=12), tmp_path / "cache"
    if not is_full:
        blocked.write_text("no folder")
    monkeypatch.setattr("classifiers.data.drawings.SHARD_SIZE", 4)
    with file_size_limit(100), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = load_scenes(spec, "val", 8, cache_dir=blocked)
        again = load_scenes(spec, "test", 4, cache_dir=blocked)

    (warning,) = {str(each.message) for each in caught}  # which Python shows once
    assert warning.startswith(str(blocked)) and "GFNET_CACHE" in warning
    assert (len(first), len(again)) == (8, 4)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != blocked]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "evaluate RUN --policies learned --quiet",
        "report RUN",
        "render RUN --images 0",
        "predict RUN RUN/glimpses.png --pictures RUN/pictures",
        "import-checkpoint PUBLISHED --out RUN/imported",
    ],
)
def test_a_full_disk_leaves_all_as_it_was(
    command: str, run: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _files(run)

    error = _error(capsys, 0, *command.replace("RUN", str(run)).replace("PUBLISHED", str(published)).split())

    assert re.fullmatch(rf"gfnet: {re.escape(str(run))}/.+: File too large\n", error)
    assert _files(run) == before


@pytest.mark.slow
def test_a_disk_that_fills_up_during_a_run_costs_nothing_that_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each attempt has more space, so that each fails at another file, until the run is whole."""
    assert main(["demo", "--out", str(tmp_path / "whole"), "--quiet", *TINIER]) == 0
    written = [path for path in (tmp_path / "whole").rglob("*") if path.is_file() and path.suffix != ".jsonl"]
    largest, limits = 0, {}
    for path in sorted(written, key=lambda path: path.stat().st_mtime_ns):
        if path.stat().st_size > 1.5 * largest and "tfevents" not in path.name:  # larger than all before it
            largest = path.stat().st_size
            limits[path.relative_to(tmp_path / "whole")] = int(0.9 * largest)

    command, run = ["demo", "--out", str(tmp_path / "run"), "--quiet", *TINIER], tmp_path / "run"
    for name, size in limits.items():
        assert _error(capsys, size, *command) == f"gfnet: {run / name}: File too large\n"
        assert not [path for path in run.rglob("*") if path.name.startswith(".")]
        for path in run.rglob("*.json"):
            json.loads(path.read_text())
    assert main(command) == 0

    assert len(limits) >= 3
    ours, whole = (read_metrics(tmp_path / name) for name in ("run", "whole"))
    changing = {"seconds": 0, "milliseconds": {}, "made_by": {}}
    assert ours | changing == whole | changing


def test_a_folder_in_the_place_of_a_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root may write everywhere, but nobody a file over a folder."""
    place = run / "glimpses.png"
    place.unlink()
    place.mkdir()
    (place / "mine").touch()

    assert _error(capsys, None, "render", run, "--images", 0) == f"gfnet: {place}: Is a directory\n"
    assert (place / "mine").exists() and not list(run.rglob(".gfnet-*"))


def _printed_to(output: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.cli", "cost", "demo", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False, env=environment)


@pytest.mark.slow
def test_an_output_that_is_full_is_one_sentence_and_one_that_nobody_reads_none() -> None:
    with open("/dev/full", "w") as full:
        done = _printed_to(full.fileno())
    assert (done.returncode, done.stderr) == (1, "gfnet: the output: No space left on device\n")

    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        done = _printed_to(closed.fileno())
    assert (done.returncode, done.stderr) == (1, "")
