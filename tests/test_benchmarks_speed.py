"""The tables of docs/speed.md are those of its rows."""

from __future__ import annotations

import json
from pathlib import Path

import measured
import pytest
from measured import Measured, Row, append, page, read


def _row(**cells: str | float) -> Row:
    return Row(
        "steps", json.dumps(cells), "0.4.0", "abcdef0123", "2.9.0", "cpu", "a processor", "2026-11-29", "speed.py"
    )


def test_the_tables_of_the_page_are_those_of_its_rows() -> None:
    text = measured.PAGE.read_text(encoding="utf-8")

    assert page(text, read(measured.ROWS)) == text
    assert "<!-- steps -->\n\n| " in text


def test_a_later_row_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for rate in (1.0, 2345.6):
        append(path, _row(task="Signs", rate=rate))
    append(path, _row(task="Search", rate=0.12345))

    text = page("before\n<!-- steps -->\nold\n<!-- / -->\nafter", read(path))

    assert text == (
        "before\n<!-- steps -->\n\n| task | rate |\n|---|---|\n| Signs | 2,346 |\n| Search | 0.123 |\n\n"
        "(`speed.py`; version 0.4.0, commit abcdef0, torch 2.9.0, a processor)\n\n<!-- / -->\nafter"
    )


def test_rows_are_shown_as_they_are_measured_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Measured("shares", tmp_path / "rows.csv").add(agent="ppo", ms_a_step=1.5)

    assert capsys.readouterr().out == "| agent | ms a step |\n|---|---|\n| ppo | 1.5 |\n"
    (kept,) = read(tmp_path / "rows.csv")
    assert (kept.table, json.loads(kept.cells), kept.device) == ("shares", {"agent": "ppo", "ms a step": 1.5}, "cpu")
