"""Files of a run that are damaged, of another run or of an earlier version."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

import agents.algorithms.stage2
from agents.evaluation.fixed_places import best_fixed_places
from agents.evaluation.metrics import accuracy_by_step
from agents.evaluation.record import load_record, save_record
from agents.runs.images import open_images
from agents.runs.loaded import load_recognizer, load_run
from agents.runs.log import RunLog, curve
from agents.runs.metrics_file import read_metrics
from agents.runs.pipeline import Pipeline
from scripts.cli import main

SMALL = [
    *("data.scenes.height=96", "data.scenes.width=128", "data.num_train=30", "data.num_val=20", "data.num_test=12"),
    *("stage2.num_envs=8", "stage2.env_steps=48", "oracle_grid=2"),
]
SETS = [part for change in SMALL for part in ("--set", change)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("files") / "run"
    assert main(["demo", "--out", str(run), "--quiet", *SETS]) == 0
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
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


@pytest.mark.slow
def test_the_log_is_written_with_every_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after a checkpoint, the run has all points up to it, and continues to the same curve."""
    monkeypatch.setattr("agents.algorithms.stage2._SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr("agents.algorithms.stage2._LARGEST_FRACTION", math.inf)
    arguments = ["--quiet", *SETS, "--set", "stage2.env_steps=4000"]
    assert main(["demo", "--out", str(tmp_path / "whole"), *arguments]) == 0
    steps, rewards = curve(tmp_path / "whole" / "metrics.jsonl", "stage2", "reward")
    written = agents.algorithms.stage2.save_training_state

    def killed(path: Path, agent: OnPolicyAlgorithm) -> None:
        written(path, agent)
        if agent.num_timesteps == steps[2]:
            monkeypatch.setattr("agents.algorithms.stage2.save_training_state", written)
            raise KeyboardInterrupt

    monkeypatch.setattr("agents.algorithms.stage2.save_training_state", killed)
    assert main(["demo", "--out", str(tmp_path / "cut"), *arguments]) == 130

    assert curve(tmp_path / "cut" / "metrics.jsonl", "stage2", "reward") == (steps[:3], rewards[:3])
    assert main(["demo", "--out", str(tmp_path / "cut"), *arguments]) == 0
    assert curve(tmp_path / "cut" / "metrics.jsonl", "stage2", "reward") == (steps, rewards)


# --- damaged files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last", ["null", '{"stage": "stage2", "st', "[]", '{"stage": "a"}', '{"stage": "a", "step": null}']
)
def test_a_damaged_log_is_named_before_anything_is_done(
    last: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len((run / "metrics.jsonl").read_text().splitlines())
    with (run / "metrics.jsonl").open("a") as file:
        file.write(last)
    monkeypatch.setattr(Pipeline, "run", lambda self: pytest.fail("it went on"))

    error = _error(capsys, "demo", "--out", str(run), "--quiet", *SETS)

    assert f"metrics.jsonl, line {count + 1} is damaged; delete the line" in error


@pytest.mark.parametrize(
    "content", [b"", b"null", b"{", b'{"accuracy": {}}', b'{"accuracy": 1, "multiply_adds": 2}', b"\xff"]
)
def test_damaged_metrics_are_named(
    content: bytes, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "metrics.json").write_bytes(content)
    monkeypatch.setattr("scripts.commands.evaluate_run", lambda *args, **kwargs: pytest.fail("it went on"))

    for command in (["plot", str(run), "--out", str(run / "plots")], ["evaluate", str(run), "--quiet"]):
        error = _error(capsys, *command)
        assert "metrics.json is damaged (" in error and "; delete it and run `gfnet evaluate" in error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("stage2/best.json", b"null", "best.json is damaged; delete the folder"),
        ("stage2/best.json", b'{"asked": 1', "best.json is damaged; delete the folder"),
        ("config.yaml", b"", "config.yaml is empty; a config is a mapping of keys"),
        ("config.yaml", b"a: [", "config.yaml, line 1, column"),
        ("config.yaml", b"\xff\xfe\x00", "config.yaml is not YAML"),
    ],
)
def test_damaged_states_are_named_before_anything_is_done(
    name: str,
    content: bytes,
    message: str,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (run / "stage2" / "policy.safetensors").unlink()
    (run / name).write_bytes(content)
    monkeypatch.setattr("agents.runs.images.open_images", lambda *args: pytest.fail("it went on"))

    assert message in _error(capsys, "demo", "--out", str(run), "--quiet", *SETS)


# --- results of other networks --------------------------------------------------------------------------------------


def test_results_of_another_run_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    assert main(["demo", "--out", str(other), "--quiet", *SETS, "--set", "seed=1"]) == 0
    shutil.copy(other / "evaluation" / "calibration.safetensors", run / "evaluation" / "calibration.safetensors")
    shutil.copy(other / "evaluation" / "learned.safetensors", run / "evaluation" / "learned.safetensors")
    shutil.copy(other / "metrics.json", run / "metrics.json")

    with pytest.raises(ValueError, match=r"calibration.safetensors was computed with other networks than this run's"):
        load_recognizer(run, budget=12e6)
    assert "learned.safetensors was computed with" in _error(capsys, "render", str(run))
    assert "metrics.json was computed with" in _error(capsys, "plot", str(run), "--out", str(tmp_path / "plots"))
    assert main(["evaluate", str(run), "--quiet"]) == 0
    assert load_recognizer(run, budget=12e6).calibration is not None
    read_metrics(run)


def test_results_of_earlier_versions_are_read(run: Path, tmp_path: Path) -> None:
    record = load_record(run / "evaluation" / "calibration.safetensors")
    assert len(record.networks) == 64
    save_record(run / "evaluation" / "calibration.safetensors", dataclasses.replace(record, networks=""))
    metrics = json.loads((run / "metrics.json").read_text())
    pointing = metrics["pointing_game"]
    del metrics["networks"]
    metrics |= {"pointing_game": pointing["learned"][0], "pointing_game_by_policy": pointing, "confidence": {}}
    (run / "metrics.json").write_text(json.dumps(metrics))

    load_recognizer(run, budget=12e6)
    assert read_metrics(run)["pointing_game"] == pointing and "confidence" not in read_metrics(run)
    assert main(["plot", str(run), "--out", str(tmp_path / "plots"), "--quiet"]) == 0


# --- which policies ------------------------------------------------------------------------------------------------


def test_only_some_policies_are_evaluated(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--policies", "learned", "random", "--budget", "12M"]) == 0

    printed = capsys.readouterr().out
    assert "random" in printed and "oracle" not in printed and "centre" not in printed
    metrics = read_metrics(run)
    assert list(metrics["accuracy"]) == list(metrics["pointing_game"]) == ["random", "learned"]
    assert main(["plot", str(run), "--out", str(tmp_path / "plots"), "--quiet"]) == 0
    assert main(["evaluate", str(run), "--quiet", "--set", "oracle_grid=0"]) == 0
    assert "oracle" not in read_metrics(run)["accuracy"] and "best_fixed_place" in read_metrics(run)["accuracy"]
    assert main(["evaluate", str(run), "--quiet", "--set", "fixed_place_grid=0"]) == 0
    assert "best_fixed_place" not in read_metrics(run)["accuracy"] and read_metrics(run)["fixed_places"] is None


def test_the_best_fixed_places_are_found_on_other_images(finished: Path) -> None:
    run, metrics = load_run(finished), read_metrics(finished)
    found = best_fixed_places(run.classifier, open_images(run.config, "val"))

    assert metrics["fixed_places"] == found.places.tolist()
    record = load_record(finished / "evaluation" / "best_fixed_place.safetensors")
    assert np.allclose(record.location, found.places.numpy())
    assert accuracy_by_step(record) == metrics["accuracy"]["best_fixed_place"]
    assert "<td>best-fixed-place</td>" in (finished / "report.html").read_text()


def test_a_run_without_an_oracle_has_a_report(tmp_path: Path) -> None:
    assert main(["demo", "--out", str(tmp_path), "--quiet", *SETS, "--set", "oracle_grid=0"]) == 0

    report = (tmp_path / "report.html").read_text()
    assert "centre-corner" in report and "<td>oracle</td>" not in report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policies", "random"], "the policies lack 'learned'; add it"),
        (["--policies", "learned", "best"], "policy 'best' is unknown; pass some of random, centre_corner"),
        (["--policies", "learned", "oracle", "--set", "oracle_grid=0"], "oracle_grid is 0; set oracle_grid=9"),
        (
            ["--policies", "learned", "best_fixed_place", "--set", "fixed_place_grid=0"],
            "fixed_place_grid is 0; set fixed_place_grid=5 to evaluate best_fixed_place",
        ),
        (
            ["--set", "fixed_place_grid=1"],
            "fixed_place_grid: ",
        ),
        (["--set", "stage3.lr=1"], "config stage3.lr changes nothing about a run that is trained"),
        (["--set", "stage2.options.gamma=0.5"], "stage2.options.gamma changes nothing about a run that is trained"),
    ],
)
def test_evaluations_that_can_not_be_are_refused(
    options: list[str], message: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in _error(capsys, "evaluate", str(finished), "--quiet", *options)
