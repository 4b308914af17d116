"""A run's folder: who may write to it, and with which settings a run that has begun may be continued."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import pytest

from agents.runs.claim import LOCK, check_settings, claimed, locked
from agents.runs.config_files import load_config, load_run_config
from agents.runs.metrics_file import read_metrics
from agents.runs.stages import STAGES
from agents.runs.yaml_text import ConfigError
from scripts.cli import main

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["scripts.run_command", "agents.runs.pipeline"])  # what all need is imported once

FILES = {
    "full-resolution network": "initialization/full_resolution.training.pt",
    "low-resolution network": "initialization/low_resolution_96.safetensors",
    "stage I": "stage1/classifier.training.pt",
    "stage II": "stage2/training.pt",
    "stage III": "stage3/classifier.safetensors",
}
DEPENDENT = [
    ("data.num_train=100", "full-resolution network"),
    ("data.scenes.seed=3", "full-resolution network"),
    ("seed=1", "full-resolution network"),
    ("classifier.encoder=resnet18", "full-resolution network"),
    ("initialization.full_resolution.lr=0.5", "full-resolution network"),
    ("initialization.low_resolution.epochs=9", "low-resolution network"),
    ("classifier.patch_size=40", "low-resolution network"),
    ("classifier.hidden_size=64", "stage I"),
    ("stage1.batch_size=8", "stage I"),
    ("stage2.env_steps=100", "stage II"),
    ("stage2.options.gamma=0.5", "stage II"),
    ("stage2.episode.reward=contrastive", "stage II"),
    ("rounds=2", "stage II"),
    ("stage3.lr=0.5", "stage III"),
]
FREE = ("oracle_grid=3", "device=cuda", "data.num_test=10", "data.num_val=10")


def _run(folder: Path, *stages: str) -> Path:
    with claimed(folder, load_config("synthetic_signs")):
        for stage in stages:
            (folder / FILES[stage]).parent.mkdir(parents=True, exist_ok=True)
            (folder / FILES[stage]).touch()
    return folder


@pytest.mark.parametrize(("change", "stage"), DEPENDENT)
def test_settings_may_change_until_a_stage_that_depends_on_them_begins(change: str, stage: str, tmp_path: Path) -> None:
    names = [each.name for each in STAGES]
    before = names[: names.index(stage)]
    changed = load_config("synthetic_signs", [change])
    key = change.partition("=")[0]

    run = _run(tmp_path / "before", *before)
    with claimed(run, changed):
        assert load_run_config(run) == changed

    with pytest.raises(ConfigError, match=f"a run whose {stage} has begun with {key}=.*; pass another --out, or"):
        check_settings(_run(tmp_path / "begun", *before, stage), changed)


@pytest.mark.parametrize("change", FREE)
def test_settings_of_the_evaluation_may_change_always(change: str, tmp_path: Path) -> None:
    run, changed = _run(tmp_path / "run", *FILES), load_config("synthetic_signs", [change])

    with claimed(run, changed):
        assert load_run_config(run) == changed


def test_validation_images_matter_once_they_choose_the_policy(tmp_path: Path) -> None:
    evaluated = ["stage2.evaluations=3"]
    with claimed(tmp_path, load_config("synthetic_signs", evaluated)):
        (tmp_path / "stage2").mkdir()
        (tmp_path / "stage2" / "best.json").touch()

    with pytest.raises(ConfigError, match=r"stage II has begun with data.num_val=4000, not 10"):
        check_settings(tmp_path, load_config("synthetic_signs", [*evaluated, "data.num_val=10"]))


def test_a_refused_change_leaves_the_config_alone(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", "stage I")
    before = (run / "config.yaml").read_bytes()

    with pytest.raises(ConfigError, match="stage I"), claimed(run, load_config("synthetic_signs", ["seed=9"])):
        pass

    assert (run / "config.yaml").read_bytes() == before and not (run / LOCK).exists()


def _hold(folder: str, ready: str, forks: bool = False) -> None:
    with locked(Path(folder)):
        if forks and os.fork() == 0:  # as a library may do that starts processes of its own
            Path(ready).write_text(str(os.getpid()))
        elif not forks:
            Path(ready).touch()
        time.sleep(600)


def _holder(folder: Path, ready: Path, forks: bool = False) -> int:
    """Starts a process that holds the lock; returns its id."""
    holder = CONTEXT.Process(target=_hold, args=(str(folder), str(ready), forks), daemon=True)
    holder.start()
    while not ready.exists() or (forks and not ready.read_text()):
        time.sleep(0.01)
    assert holder.pid is not None
    return holder.pid


def _benchmark(name: str, *arguments: str) -> int:
    before = sys.argv
    sys.argv = [name, *arguments]
    try:
        runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / name), run_name="__main__")
    except SystemExit as error:
        return int(error.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.mark.slow
def test_one_process_at_a_time_and_a_killed_one_holds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    holder = _holder(run, tmp_path / "ready")
    expected = f"process {holder} is at work on {run}; wait until it is done, or pass another folder\n"
    out = ["--out", str(run), "--quiet"]

    for command in (
        ["demo", *out],
        ["train", "synthetic_signs", *out],
        ["benchmark", "ppo", *out],
        ["import-checkpoint", str(tmp_path / "file"), *out],
    ):
        assert main(command) == 1
        assert capsys.readouterr().err == f"gfnet: {expected}"
    assert [path.name for path in run.iterdir()] == [LOCK]

    os.kill(holder, signal.SIGKILL)
    while Path(f"/proc/{holder}/fd").exists() and os.listdir(f"/proc/{holder}/fd"):
        time.sleep(0.01)
    assert (run / LOCK).exists()
    with locked(run):
        assert (run / LOCK).read_text() == str(os.getpid())
    assert not (run / LOCK).exists()


def test_what_changes_a_finished_run_takes_the_lock_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run(tmp_path / "run")
    metrics = {"accuracy": {}, "multiply_adds": {}, "images": 1, "full_resolution_accuracy": 0.5}
    (run / "metrics.json").write_text(json.dumps({**metrics, "adaptive": {"match": None}}))
    holder = _holder(run, tmp_path / "ready")
    expected = f"process {holder} is at work on {run}; wait until it is done, or pass another folder\n"

    for command in (["evaluate"], ["report"], ["render"], ["render", "--out", str(run / "new" / "1.png")], ["export"]):
        assert main([command[0], str(run), *command[1:], "--quiet"]) == 1
        assert capsys.readouterr().err == f"gfnet: {expected}"
    assert _benchmark("saturated_baseline.py", str(run)) == 1
    assert capsys.readouterr().err == expected

    assert {path.name for path in run.iterdir()} == {"config.yaml", "metrics.json", LOCK}
    assert main(["render", str(run), "--out", str(tmp_path / "1.png")]) == 1  # writes elsewhere: it may read
    assert "is at work" not in capsys.readouterr().err
    os.kill(holder, signal.SIGKILL)


def test_processes_that_a_killed_one_forked_hold_nothing(tmp_path: Path) -> None:
    run, ready = tmp_path / "run", tmp_path / "ready"
    holder = _holder(run, ready, forks=True)
    child = int(ready.read_text())
    try:
        with pytest.raises(ConfigError, match=f"^process {holder} is at work on"), locked(run):
            pass
        os.kill(holder, signal.SIGKILL)
        while Path(f"/proc/{holder}/fd").exists() and os.listdir(f"/proc/{holder}/fd"):
            time.sleep(0.01)

        os.kill(child, 0)  # it lives
        with locked(run):
            assert (run / LOCK).read_text() == str(os.getpid())
    finally:
        os.kill(child, signal.SIGKILL)


def _train(errors: str, *arguments: str) -> None:
    with open(errors, "w", encoding="utf-8") as sys.stderr:
        code = main(["demo", "--quiet", *arguments])
    sys.exit(code)


@pytest.mark.slow
def test_of_two_processes_that_train_one_is_told(tmp_path: Path) -> None:
    few = ("data.num_train=12", "data.num_val=6", "data.num_test=6", "stage2.num_envs=2", "stage2.env_steps=12")
    sets = [part for change in (*few, "oracle_grid=2", "fixed_place_grid=2") for part in ("--set", change)]
    run, logs = tmp_path / "run", [tmp_path / "0.txt", tmp_path / "1.txt"]
    both = [CONTEXT.Process(target=_train, args=(str(log), "--out", str(run), *sets)) for log in logs]

    for process in both:
        process.start()
    for process in both:
        process.join()

    (first, second), errors = both, [log.read_text() for log in logs]
    assert sorted([first.exitcode, second.exitcode]) == [0, 1]  # type: ignore[type-var]  # both have ended
    winner, told = (first, errors[1]) if second.exitcode else (second, errors[0])
    assert told == f"gfnet: process {winner.pid} is at work on {run}; wait until it is done, or pass another folder\n"
    assert sorted(map(len, errors)) == [0, len(told)]
    assert read_metrics(run)["images"] == 6


def test_a_lock_makes_no_folder_that_stays(tmp_path: Path) -> None:
    assert main(["import-checkpoint", str(tmp_path / "absent.pth.tar"), "--out", str(tmp_path / "run")]) == 1

    assert not (tmp_path / "run").exists()
