"""The tutorials run from top to bottom without an error or a warning, and hold small pictures of what they did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "tutorials"
NAMES = ("environment", "training", "budgets")


def _cells(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def _outputs(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [output for cell in cells for output in cell.get("outputs", ())]


def _pictures(cells: list[dict[str, Any]]) -> int:
    return sum("image/jpeg" in output.get("data", ()) for output in _outputs(cells))


@pytest.mark.parametrize("name", NAMES)
def test_stored_outputs_are_small_and_of_a_run_without_warnings(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    cells = _cells(path)
    code = [cell for cell in cells if cell["cell_type"] == "code"]

    assert path.stat().st_size < 300_000
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert _pictures(cells) >= 3
    assert {output.get("name", "stdout") for output in _outputs(cells)} == {"stdout"}
    texts = [text for output in _outputs(cells) for text in output.get("text", ())]
    assert texts and not any(word in text for text in texts for word in ("/tmp", "/home", "/root", "Warning"))


def test_every_tutorial_is_named_in_the_readme() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"](docs/tutorials/{name}.ipynb)" in readme for name in NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_tutorial_runs(name: str, tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "benchmarks" / "tutorials.py"), name, "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    ours, theirs = _cells(FOLDER / f"{name}.ipynb"), _cells(tmp_path / f"{name}.ipynb")
    assert [cell["source"] for cell in theirs] == [cell["source"] for cell in ours]
    assert [output for output in _outputs(theirs) if output.get("name") == "stderr"] == []
    assert _pictures(theirs) == _pictures(ours)
