"""A disk that is full or can't be written, at every place where a command writes.

Each is one sentence that names the file, and exit code 1; the file that was there before stays whole, and no temporary
file stays. Commands run in processes of their own, whose files can't grow (`file_size_limit`): nor could those into
which pytest captures the output.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from full_disk import file_size_limit
from PIL import Image
from stable_baselines3 import PPO

from agents.policies.weights import save_policy
from agents.runs.metrics_file import read_metrics
from classifiers.data.synthetic_signs.cache import load_scenes
from classifiers.data.synthetic_signs.scenes import SceneSpec
from scripts.cli import main
from scripts.episodes import save_gif, save_png
from scripts.plots import save_figure

pytestmark = pytest.mark.slow  # a trained run is needed

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["scripts.cli", "agents.runs.pipeline"])

FEW = [
    *("data.scenes.height=96", "data.scenes.width=128", "data.num_train=12", "data.num_val=6", "data.num_test=6"),
    *("stage2.num_envs=2", "stage2.env_steps=12", "oracle_grid=2", "fixed_place_grid=2"),
]
SETS = [part for change in FEW for part in ("--set", change)]


def _work(results: Connection, size: int, arguments: tuple[str, ...]) -> None:
    torch.set_num_threads(1)  # as the tests themselves: sums over several threads differ in the last bit
    errors = io.StringIO()
    with file_size_limit(size), redirect_stdout(io.StringIO()), redirect_stderr(errors):
        code = main(arguments)
    results.send((code, errors.getvalue()))


def _on_a_full_disk(size: int, *arguments: str) -> tuple[int, str]:
    """Exit code and errors of a command whose files can't have more than so many bytes."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_work, args=(theirs, size, arguments))
    process.start()
    theirs.close()
    found: tuple[int, str] = ours.recv()
    process.join()
    return found


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _full(error: str) -> str:
    """The file that a sentence about a full disk names."""
    found = re.fullmatch(
        r"gfnet: (.+) can't be read or written \(File too large\); free some space or choose another place\n", error
    )
    assert found, error
    return found[1]


# --- what writes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 200])
def test_pictures_and_plots_are_whole_or_an_error_in_words(size: int, tmp_path: Path) -> None:
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
        with file_size_limit(size), pytest.raises(OSError, match="File too large") as error:
            write(path)
        assert error.value.filename == str(path)
        assert _files(tmp_path) == before


def test_a_policy_is_whole_or_not_there(tmp_path: Path) -> None:
    agent = PPO("MlpPolicy", "CartPole-v1", device="cpu", n_steps=8, batch_size=8)
    with file_size_limit(1000), pytest.raises(OSError, match="File too large") as error:
        save_policy(tmp_path / "policy.safetensors", agent)
    assert error.value.filename == str(tmp_path / "policy.safetensors") and not _files(tmp_path)


@pytest.mark.parametrize("is_full", [True, False])
def test_a_cache_that_can_not_be_written_is_a_warning_once(
    is_full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, blocked = SceneSpec(height=32, width=40, min_sign_px=10, max_sign_px=12), tmp_path / "cache"
    if not is_full:
        blocked.write_text("no folder")
    monkeypatch.setattr("classifiers.data.synthetic_signs.cache.SHARD_SIZE", 4)
    with file_size_limit(100), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = load_scenes(spec, "val", 8, cache_dir=blocked)
        again = load_scenes(spec, "test", 4, cache_dir=blocked)

    (warning,) = [str(each.message) for each in caught]
    reason = "File too large" if is_full else "Not a directory"
    assert (
        warning.startswith(str(blocked)) and reason in warning and warning.endswith("to a folder that can be written")
    )
    assert (len(first), len(again)) == (8, 4)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != blocked]


# --- commands on a finished run --------------------------------------------------------------------------------------


@pytest.fixture
def run(demo_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(demo_run, tmp_path / "run")
    return tmp_path / "run"


COMMANDS: dict[str, tuple[str, ...]] = {
    "evaluate": ("evaluate", "RUN", "--quiet", "--policies", "learned"),
    "report": ("report", "RUN"),
    "render": ("render", "RUN", "--images", "0"),
    "render a gif": ("render", "RUN", "--images", "0", "--out", "RUN/a.gif"),
    "plot": ("plot", "RUN", "--out", "RUN/plots"),
    "predict": ("predict", "RUN", "PICTURE", "--pictures", "RUN/pictures"),
    "export": ("export", "RUN"),
    "import": ("import-checkpoint", "PUBLISHED", "--out", "OUT"),
    "benchmark": ("benchmark", "ppo", "--seeds", "1", "--steps", "12", "--out", "OUT", "--quiet"),
    "demo": ("demo", "--out", "OUT", "--quiet"),
}


def _arguments(command: str, run: Path, published: Path, picture: Path) -> list[str]:
    places = {"RUN": str(run), "OUT": str(run.parent / "out"), "PUBLISHED": str(published), "PICTURE": str(picture)}
    words = [re.sub("RUN|OUT|PUBLISHED|PICTURE", lambda found: places[found[0]], word) for word in COMMANDS[command]]
    return words + (SETS if command in ("demo", "benchmark") else [])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_sentence_and_leaves_all_as_it_was(
    command: str, run: Path, published: Path, picture: Path
) -> None:
    if command == "export":
        pytest.importorskip("onnxscript")
    before = _files(run.parent)

    code, error = _on_a_full_disk(0, *_arguments(command, run, published, picture))

    assert code == 1
    assert Path(_full(error)).is_relative_to(run.parent)
    assert _files(run.parent) == before
    assert not (run.parent / "out").exists()


def test_a_disk_that_fills_up_during_a_run_costs_nothing_that_was_done(tmp_path: Path) -> None:
    """Each attempt has more space, so that each fails at another file, until the run is whole."""
    few = [*SETS, "--set", "stage2.policy_options={extractor: {conv_channels: 2, units: 8}}"]
    assert main(["demo", "--out", str(tmp_path / "whole"), "--quiet", *few]) == 0
    written = [path for path in (tmp_path / "whole").rglob("*") if path.is_file() and path.suffix != ".jsonl"]
    largest, limits = 0, {}
    for path in sorted(written, key=lambda path: path.stat().st_mtime_ns):
        if path.stat().st_size > 1.5 * largest and "tfevents" not in path.name:  # larger than all before it
            largest = path.stat().st_size
            limits[path.relative_to(tmp_path / "whole")] = int(0.9 * largest)

    command, named = ["demo", "--out", str(tmp_path / "run"), "--quiet", *few], []
    for size in limits.values():
        code, error = _on_a_full_disk(size, *command)
        assert code == 1
        named.append(Path(_full(error)).relative_to(tmp_path / "run"))
        assert not [path for path in (tmp_path / "run").rglob("*") if path.name.startswith(".")]
        for path in (tmp_path / "run").rglob("*.json"):
            json.loads(path.read_text())
    assert main(command) == 0

    assert named == list(limits) and len(named) >= 3
    ours, whole = (read_metrics(tmp_path / name) for name in ("run", "whole"))
    assert {**ours, "seconds": 0} == {**whole, "seconds": 0}


# --- places that can't be written ------------------------------------------------------------------------------------


def _refused(capsys: pytest.CaptureFixture[str], command: list[str]) -> str:
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    found = re.fullmatch(
        r"gfnet: (.+) can't be read or written \((.+)\); free some space or choose another place\n", error
    )
    assert found, error
    assert found[2] in (
        "Is a directory",
        "Not a directory",
        "File exists",
        "Read-only file system",
        "Permission denied",
    )
    return found[1]


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("render", "glimpses.png"),
        ("render a gif", "a.gif"),
        ("plot", "plots/budgeted.png"),
        ("predict", "pictures/0001_picture.png"),
        *(
            pytest.param(command, place, marks=pytest.mark.slow)
            for command, place in (
                ("report", "report.html"),
                ("report", "glimpses.png"),
                ("evaluate", "evaluation/learned.safetensors"),
                ("evaluate", "evaluation/calibration.safetensors"),
                ("export", "onnx/glance.onnx"),
            )
        ),
    ],
)
def test_a_folder_in_the_place_of_a_file(
    command: str, place: str, run: Path, published: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root may write everywhere, but nobody a file over a folder."""
    if command == "export":
        pytest.importorskip("onnxscript")
    (run / place).unlink(missing_ok=True)
    (run / place).mkdir(parents=True)
    (run / place / "mine").touch()

    assert _refused(capsys, _arguments(command, run, published, picture)) == str(run / place)

    assert (run / place / "mine").exists()
    assert not list(run.rglob(".gfnet-*"))


@pytest.mark.parametrize("command", ["demo", "benchmark", "import"])
def test_a_file_in_the_place_of_a_folder(
    command: str, run: Path, published: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.parent / "out").write_text("mine")

    assert _refused(capsys, _arguments(command, run, published, picture)) == str(run.parent / "out")

    assert (run.parent / "out").read_text() == "mine"


@pytest.mark.parametrize("command", ["plot", "predict", "render a gif"])
def test_a_file_above_the_place_of_a_folder(
    command: str, run: Path, published: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.parent / "file").write_text("mine")
    words = _arguments(command, run, published, picture)
    place = {"plot": "plots", "predict": "pictures", "render a gif": "a.gif"}[command]
    words[words.index(str(run / place))] = str(run.parent / "file" / "in" / place)

    assert _refused(capsys, words).startswith(str(run.parent / "file"))

    assert (run.parent / "file").read_text() == "mine"


# --- the output ------------------------------------------------------------------------------------------------------


def _printed_to(output: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(
        command, stdout=output, stderr=subprocess.PIPE, text=True, check=False, env=environment, timeout=300
    )


def test_an_output_that_is_full_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = _printed_to(full, "cost", "demo", "--json")

    assert done.returncode == 1
    reason = "the output can't be read or written (No space left on device)"
    assert done.stderr == f"gfnet: {reason}; free some space or choose another place\n"


def test_an_output_that_nobody_reads_is_no_error_in_words() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed:
        done = _printed_to(closed, "cost", "demo")

    assert (done.returncode, done.stderr) == (1, "")
