"""A run that is killed again and again, whatever it is doing, ends as one that nobody disturbed."""

from __future__ import annotations

import glob
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import agents.algorithms.stage2
from scripts.cli import main

KILLS = 50
MOST_WRITES = 6  # that a process lives to see: counted, so that slow machines get as far as fast ones
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
CONTEXT.set_forkserver_preload(["scripts.cli", "agents.runs.pipeline"])  # what a process needs is imported once


def _train(folder: str) -> None:
    """Trains a run, with a checkpoint after every rollout instead of every five seconds."""
    agents.algorithms.stage2._SECONDS_BETWEEN_CHECKPOINTS = -1.0
    agents.algorithms.stage2._LARGEST_FRACTION = float("inf")
    sets = [part for change in TINY for part in ("--set", change)]
    sys.exit(main(["train", "synthetic_signs", "--out", folder, "--quiet", *sets]))


def _seconds(pid: int) -> float:
    """Processor time that a process has used: unlike the clock, it does not depend on what else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _written(folder: Path) -> int:
    """When something was last written there."""
    times = (os.stat(path).st_mtime_ns for path in glob.iglob(f"{folder}/**", recursive=True) if os.path.exists(path))
    return max(times, default=0)


def _run(folder: Path, writes: int | None = None, seconds: float = 0.0) -> int | None:
    """Trains in a process of its own, killed so much processor time after so many writes; None lets it end."""
    process = CONTEXT.Process(target=_train, args=(str(folder),))
    last = _written(folder / "[!.]*")
    process.start()
    assert process.pid is not None
    since = _seconds(process.pid)
    while process.is_alive() and writes is not None:
        try:
            now, written = _seconds(process.pid), _written(folder / "[!.]*")
        except FileNotFoundError:
            continue  # it has ended, or a file was renamed
        if writes > 0 and written > last:
            writes, last, since = writes - 1, written, now
        if writes == 0 and now - since >= seconds:
            process.kill()
            break
        time.sleep(0.002)
    process.join()
    return process.exitcode


STAGES = (
    ("full_resolution", "initialization/full_resolution.safetensors"),
    ("low_resolution", "initialization/low_resolution_24.safetensors"),
    ("stage I", "stage1/classifier.safetensors"),
    ("stage II", "round_1/stage2/policy.safetensors"),
    ("stage III", "round_1/stage3/classifier.safetensors"),
    ("stage II again", "stage2/policy.safetensors"),
    ("stage III again", "stage3/classifier.safetensors"),
    ("evaluation", "metrics.json"),
)


def _stage(run: Path) -> str:
    """What a killed run was at."""
    return next((name for name, file in STAGES if not (run / file).is_file()), "report")


def _result(run: Path) -> dict[str, Any]:
    """All that a run found and learned, without the time that it took."""
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    curves = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "metrics": {key: value for key, value in metrics.items() if key != "seconds"},
        "curves": [line for line in curves if not line["stage"].startswith("seconds:")],
        "weights": {path.relative_to(run): path.read_bytes() for path in run.rglob("*.safetensors")},
    }


@pytest.mark.slow
def test_killed_at_50_random_moments_a_run_ends_the_same(tmp_path: Path) -> None:
    """Whichever run is finished before the last kill is compared, and another one begun."""
    assert _run(tmp_path / "whole") == 0
    expected = _result(tmp_path / "whole")
    names = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    dice, kills, finished = random.Random(0), Counter[str](), 0

    run = tmp_path / "0"
    while True:
        is_last = kills.total() == KILLS
        writes, seconds = dice.randint(0, MOST_WRITES), dice.uniform(0.0, 0.1)
        if (run / "metrics.json").is_file():  # only the report is left, which is written at once
            writes, seconds = 0, dice.uniform(0.0, 6.0)
        code = _run(run, None if is_last else writes, seconds)
        if code == -signal.SIGKILL:
            kills[_stage(run)] += 1
            continue
        assert code == 0
        assert _result(run) == expected
        found = {path.relative_to(run) for path in run.rglob("*") if path.is_file()}
        assert not [path for path in found ^ names if "tfevents" not in path.name]
        finished += 1
        if is_last:
            break
        run = tmp_path / str(finished)

    print(kills, finished)
    assert kills.total() == KILLS
    assert len(kills) >= 6, kills  # they were killed in most stages
