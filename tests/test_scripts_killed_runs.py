"""A run that is killed again and again, whatever it is doing, ends as one that nobody disturbed."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import agents.algorithms.stage2
from scripts import plots
from scripts.cli import main

KILLS = 20
MOST_WRITES = 8  # that a process lives to see: counted, so that slow machines get as far as fast ones
TINY = [
    *("data.num_train=24", "data.num_val=6", "data.num_test=6", "data.scenes.height=48", "data.scenes.width=64"),
    *("data.scenes.min_sign_px=16", "data.scenes.max_sign_px=24", "classifier.patch_size=24"),
    *("classifier.num_glimpses=3", "classifier.hidden_size=8", "stage2.num_envs=4", "stage2.env_steps=64"),
    *("stage2.options={n_steps: 2, batch_size: 8, n_epochs: 1}", "stage2.evaluations=2", "rounds=2"),
    "stage2.policy_options={extractor: {conv_channels: 2, units: 8}}",
    *("oracle_grid=2", "fixed_place_grid=2", "initialization.low_resolution_sides=[]"),
    *(f"{part}.epochs=2" for part in ("initialization.full_resolution", "initialization.low_resolution", "stage1")),
    "stage3.epochs=2",
]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["scripts.run_command", "agents.runs.pipeline"])  # what a process needs is imported once


def _train(folder: Path) -> None:
    """Trains a run, with a checkpoint after every rollout instead of every five seconds and no plot in its report."""
    agents.algorithms.stage2._SECONDS_BETWEEN_CHECKPOINTS = -1.0
    agents.algorithms.stage2._LARGEST_FRACTION = float("inf")
    plots.as_svg = lambda figure: ""
    sys.exit(main(["train", "synthetic_signs", "--out", str(folder), "--quiet", "--set", *TINY]))


def _last_write(folder: Path) -> int:
    """When a file was last written whole."""
    times = [0]
    for path in folder.rglob("[!.]*.*"):
        with suppress(FileNotFoundError):  # renamed in between
            times.append(path.stat().st_mtime_ns)
    return max(times)


def _run(folder: Path, writes: int | None = None, seconds: float = 0.0) -> int | None:
    """Trains in a process of its own, killed so long after so many writes; None lets it end."""
    process = CONTEXT.Process(target=_train, args=(folder,))
    last = _last_write(folder)
    process.start()
    while process.is_alive() and writes:
        if (now := _last_write(folder)) > last:
            writes, last = writes - 1, now
        time.sleep(0.002)
    if writes is not None:
        time.sleep(seconds)
        process.kill()
    process.join()
    return process.exitcode


def _result(run: Path) -> dict[str, Any]:
    """All that a run found and learned, without the time that it took, and the names of its files."""
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    curves = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    files = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
    return {
        "metrics": {key: value for key, value in metrics.items() if key not in ("seconds", "milliseconds", "made_by")},
        "curves": [line for line in curves if not line["stage"].startswith("seconds:")],
        "weights": {path: (run / path).read_bytes() for path in files if path.suffix == ".safetensors"},
        "files": {path for path in files if "tfevents" not in path.name},
    }


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_the_same(tmp_path: Path) -> None:
    """A run that is finished before the last kill is compared, and another one begun."""
    assert _run(tmp_path / "whole") == 0
    expected = _result(tmp_path / "whole")
    (tmp_path / "whole" / "stage1" / "classifier.training.pt").touch()  # killed before it was removed
    (tmp_path / "whole" / "metrics.json").unlink()
    assert _run(tmp_path / "whole") == 0 and _result(tmp_path / "whole") == expected
    dice, kills, stages = random.Random(0), 0, set()

    for number in range(KILLS):
        run, code = tmp_path / str(number), -signal.SIGKILL
        while code == -signal.SIGKILL:
            is_killed = kills < KILLS and not (run / "metrics.json").is_file()
            code = _run(run, dice.randint(1, MOST_WRITES) if is_killed else None, dice.uniform(0.0, 0.1)) or 0
            kills += code == -signal.SIGKILL
            stages.add(len(list(run.rglob("*.safetensors"))))
        assert code == 0
        assert _result(run) == expected
        if kills >= KILLS:
            break

    assert kills == KILLS
    assert len(stages) >= 4  # they were killed in several stages
