"""`metrics.jsonl`: what was measured when."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from full_disk import file_size_limit
from stable_baselines3.common.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.runs.event_file import EventFile
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


def test_an_event_file_holds_our_figures_and_those_of_sb3(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    logger = Logger(None, [events])

    events.add("stage2/reward", 0.5, 10)
    logger.record("train/loss", np.float32(0.25))
    logger.record("train/n_updates", 3, exclude="tensorboard")
    logger.record("train/name", "a text")
    logger.dump(20)
    logger.close()
    events.add("stage2/reward", 0.75, 30)  # it opens again
    events.close()

    found = EventAccumulator(str(tmp_path / "new")).Reload()
    assert found.Tags()["scalars"] == ["stage2/reward", "train/loss"]
    assert [(point.step, point.value) for point in found.Scalars("stage2/reward")] == [(10, 0.5), (30, 0.75)]
    assert [(point.step, point.value) for point in found.Scalars("train/loss")] == [(20, 0.25)]


def test_an_event_file_that_is_full_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    with pytest.raises(OSError, match=r"File exists|Not a directory") as error:
        EventFile(tmp_path / "folder").add("a", 1.0, 1)
    assert str(error.value.filename).startswith(str(tmp_path / "folder"))

    events = EventFile(tmp_path)
    events.add("a", 1.0, 1)
    (path,) = tmp_path.glob("events*")
    with file_size_limit(10):
        with pytest.raises(OSError, match="File too large") as error:
            events.flush()
        events.close()
    assert error.value.filename == str(path)
