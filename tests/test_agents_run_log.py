"""`metrics.jsonl`: what was measured when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.runs.log import RunLog, curve


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_that_are_not_finite_are_gaps(value: float, tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard")

    for step, reward in ((1, 0.5), (2, value), (3, 0.7)):
        log.add("stage2", step, {"reward": reward})
    log.write()

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rewards = [line.get("reward") for line in lines if line["stage"] == "stage2"]
    assert rewards == [0.5, None, 0.7]
    assert curve(tmp_path / "metrics.jsonl", "stage2", "reward") == ([1, 3], [0.5, 0.7])


def test_figures_of_one_step_come_together(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard")
    log.add("stage2", 5, {"reward": 0.5, "looks": 3.0})
    log.add("stage2", 5, {"accuracy": 0.75})
    log.write()

    log = RunLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard")
    log.add("stage2", 5, {"reward": 0.25})  # the rollout again, the validation not
    log.write()

    for name, value in {"reward": 0.25, "looks": 3.0, "accuracy": 0.75}.items():
        assert curve(tmp_path / "metrics.jsonl", "stage2", name) == ([5], [value])


def test_tensorboard_shows_the_same_figures(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard")
    assert not (tmp_path / "tensorboard").exists()
    log.add("stage2", 10, {"reward": 0.5})
    log.add("stage2", 30, {"reward": 0.75})
    log.write()
    log.close()

    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(point.step, point.value) for point in found.Scalars("stage2/reward")] == [(10, 0.5), (30, 0.75)]
