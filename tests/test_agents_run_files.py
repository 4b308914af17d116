"""Files of a run that are damaged, of another run or of an earlier version."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY

import gfnet_env
from agents.evaluation.fixed_places import best_fixed_places
from agents.evaluation.metrics import accuracy_by_step
from agents.evaluation.record import load_record
from agents.runs.folder import read_metrics
from agents.runs.images import open_images
from agents.runs.log import RunLog, curve
from agents.runs.pipeline import Pipeline
from agents.runs.run import load_run
from scripts.cli import main


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def _error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


# --- the log --------------------------------------------------------------------------------------------------------


def test_points_and_seconds_last_beyond_a_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("agents.runs.log.time.monotonic", lambda: now[0])
    path = tmp_path / "metrics.jsonl"

    log = RunLog(path, tmp_path / "tensorboard")
    now[0] = 3.0
    log.begin("stage2")
    log.add("stage2", 10, {"reward": 0.5, "entropy": float("nan")})
    now[0] = 8.0
    log.write()  # with a checkpoint
    log.add("stage2", 20, {"reward": 0.75})  # and killed
    now[0] = 100.0
    log = RunLog(path, tmp_path / "tensorboard")
    now[0] = 102.0
    log.begin("stage2")
    log.add("stage2", 20, {"reward": 0.25})
    now[0] = 106.0
    log.write()

    assert curve(path, "stage2", "reward") == ([10, 20], [0.5, 0.25])
    assert log.seconds() == 8 + 6
    lines = {line["stage"]: line for line in map(json.loads, path.read_text().splitlines())}
    assert lines["seconds:stage2"]["seconds"] == 5 + 4 and "NaN" not in path.read_text()


# --- damaged files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ['{"stage": "stage2", "st', '{"stage": "a"}'])
def test_a_damaged_log_is_named_before_anything_is_done(
    last: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len((run / "metrics.jsonl").read_text().splitlines())
    with (run / "metrics.jsonl").open("a") as file:
        file.write(last)
    monkeypatch.setattr(Pipeline, "run", lambda self: pytest.fail("it went on"))

    error = _error(capsys, "demo", "--out", str(run), "--quiet", *TINY)

    assert f"metrics.jsonl, line {count + 1} is damaged; delete the line" in error


@pytest.mark.parametrize("content", [b"", b'{"accuracy": {}}'])
def test_damaged_metrics_are_named(
    content: bytes, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "metrics.json").write_bytes(content)
    monkeypatch.setattr("scripts.commands.evaluate_run", lambda *args, **kwargs: pytest.fail("it went on"))

    for command in (["plot", str(run), "--out", str(run / "plots")], ["evaluate", str(run), "--quiet"]):
        error = _error(capsys, *command)
        assert "metrics.json is damaged (" in error and "; delete it and run `gfnet evaluate" in error


def test_a_run_says_what_made_it(tiny_run: Path) -> None:
    made = read_metrics(tiny_run)["made_by"]

    assert made["version"] == gfnet_env.__version__ and made["torch"] == torch.__version__
    assert made.keys() == {"version", "commit", "torch", "device", "date", "command"}
    assert (tiny_run / "config.yaml").read_text().startswith(f"# version: {made['version']}\n")
    report = html.unescape((tiny_run / "report.html").read_text())
    assert all(f"# {name}: {value}\n" in report for name, value in made.items())


def test_splits_are_compared_by_name_before_anything_trains(
    picture_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "full_resolution", lambda self: pytest.fail("it went on"))
    arguments = ["train", "image_folder", "--out", str(tmp_path / "run"), "--set", f"data.root={picture_tree}"]

    (picture_tree / "val" / "left").rename(picture_tree / "val" / "up")
    assert "up" in _error(capsys, *arguments, "--quiet")
    shutil.rmtree(picture_tree / "val")
    assert "val" in _error(capsys, *arguments, "--quiet")


# --- which policies ------------------------------------------------------------------------------------------------


def test_only_some_policies_are_evaluated(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--policies", "learned", "random", "--budget", "12M"]) == 0

    printed = capsys.readouterr().out
    assert "random" in printed and "oracle" not in printed and "center" not in printed
    metrics = read_metrics(run)
    assert list(metrics["accuracy"]) == list(metrics["pointing_game"]) == ["random", "learned"]
    assert main(["plot", str(run), "--out", str(tmp_path / "plots"), "--quiet"]) == 0
    assert main(["evaluate", str(run), "--quiet", "--set", "oracle_grid=0"]) == 0
    assert "oracle" not in read_metrics(run)["accuracy"] and "best_fixed_place" in read_metrics(run)["accuracy"]
    assert main(["evaluate", str(run), "--quiet", "--set", "fixed_place_grid=0"]) == 0
    assert "best_fixed_place" not in read_metrics(run)["accuracy"] and read_metrics(run)["fixed_places"] is None


def test_the_best_fixed_places_are_found_on_other_images(tiny_run: Path) -> None:
    run, metrics = load_run(tiny_run), read_metrics(tiny_run)
    found = best_fixed_places(run.classifier, open_images(run.config, "val"))

    assert metrics["fixed_places"] == found.places.tolist()
    record = load_record(tiny_run / "evaluation" / "best_fixed_place.safetensors")
    assert np.allclose(record.location, found.places.numpy())
    assert accuracy_by_step(record) == metrics["accuracy"]["best_fixed_place"]
    assert "<td>best-fixed-place</td>" in (tiny_run / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policies", "random"], "'learned'"),
        (["--policies", "learned", "best"], "'best'"),
        (["--policies", "learned", "oracle", "--set", "oracle_grid=0"], "oracle_grid"),
        (["--set", "fixed_place_grid=1"], "fixed_place_grid"),
        (["--set", "stage2.options.gamma=0.5"], "stage2.options.gamma"),
    ],
)
def test_evaluations_that_can_not_be_are_refused(
    options: list[str], message: str, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in _error(capsys, "evaluate", str(tiny_run), "--quiet", *options)
