"""The file for SkyPilot: what it runs exists, and SkyPilot takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.runs.config_files import load_config
from scripts.cli import _expand_set_args, build_parser

PATH = Path(__file__).parent.parent / "examples" / "cloud" / "train.yaml"


def _task() -> dict[str, Any]:
    task: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return task


def test_what_it_runs_is_a_command_with_a_config() -> None:
    words = _task()["run"].split("scripts.cli", 1)[1].split()

    options = build_parser().parse_args(_expand_set_args(words))

    assert load_config(options.config, options.set).device == "cuda"
    assert str(options.out).startswith("/runs/") and "/runs" in _task()["file_mounts"]


def test_skypilot_reads_it() -> None:
    sky = pytest.importorskip("sky", reason="SkyPilot is not in any extra: pip install skypilot")

    task = sky.Task.from_yaml_config(_task(), env_overrides=[("IMAGES", "s3://a/images"), ("RUNS", "s3://a/runs")])

    assert task.num_nodes == 1 and set(task.storage_mounts) == {"/data/imagenet", "/runs"}
