"""Table 3 as a study: each size alone against several, at equal budgets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.studies.patch_sizes import NUM_BUDGETS
from scripts.cli import main

FEW = (
    *("data.num_train=24", "data.num_val=12", "data.num_test=12", "stage1.epochs=1", "stage3.epochs=1"),
    *("stage2.num_envs=8", "stage2.env_steps=24", "classifier.patch_sizes=[24, 40]", "classifier.num_glimpses=3"),
)


def _sizes(config: str, out: Path, *changes: str, seeds: int = 1) -> int:
    settings = [part for change in changes for part in ("--set", change)]
    return main(["sizes", config, "--out", str(out), "--seeds", str(seeds), "--no-genetic", "--quiet", *settings])


@pytest.mark.slow
def test_every_row_of_the_table_is_trained_and_judged_at_equal_budgets(tmp_path: Path) -> None:
    assert _sizes("ms_synthetic_signs_sizes", tmp_path, *FEW) == 0
    runs = sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*/metrics.json"))
    assert runs == ["24/seed_0", "40/seed_0", "several/seed_0"]

    table = json.loads((tmp_path / "sizes.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == [
        "patches of 24",
        "patches of 40",
        "several sizes, coordinate ascent",
        "several sizes, upper bound",
    ]
    assert len(table["budgets"]) == NUM_BUDGETS and table["budgets"] == sorted(table["budgets"])
    for row in rows.values():
        assert len(row["accuracy"]) == len(row["spread"]) == len(row["cost"]) == NUM_BUDGETS
        assert all(0.0 <= accuracy <= 1.0 for accuracy in row["accuracy"])
    bound, found = rows["several sizes, upper bound"], rows["several sizes, coordinate ascent"]
    for most, reached, budget, cost in zip(
        bound["accuracy"], found["accuracy"], table["budgets"], found["cost"], strict=True
    ):
        assert reached <= most or cost > budget  # thresholds of other images may overrun the budget
    lines = (tmp_path / "sizes.md").read_text().splitlines()
    assert lines[0].startswith("| 1 seed |") and len(lines) == 2 + len(rows)

    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/metrics.json")}
    assert _sizes("ms_synthetic_signs_sizes", tmp_path, *FEW) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/metrics.json")} == times  # nothing again


def test_what_can_not_be_compared_is_said_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _sizes("synthetic_signs", tmp_path) == 1
    message = capsys.readouterr().err.replace("\n", " ")
    assert "synthetic_signs has one patch size, 48; pass a config with patch_sizes, for example [32, 48, 64]" in message
    assert _sizes("ms_synthetic_signs_sizes", tmp_path, seeds=0) == 1
    assert "0 seeds; pass 1 or more" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
