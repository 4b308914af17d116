"""The README is true: its snippets and its commands run, on small data where they would take long."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import SMALL_SCENES

from agents.config_files import shipped_configs
from scripts.cli import main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
LINES = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]

_SCENES = [
    f"data.scenes.height={SMALL_SCENES.height}",
    f"data.scenes.width={SMALL_SCENES.width}",
    "data.num_train=30",
    "data.num_val=5",
    "data.num_test=12",
]
_EPOCHS = [f"{part}.epochs=1" for part in ("initialization.full_resolution", "initialization.low_resolution", "stage1")]
_POLICY = ["stage2.num_envs=8", "stage2.env_steps=48", "oracle_grid=2"]
SHRUNK = {
    "demo": [*_SCENES, *_POLICY],
    "synthetic_signs": [*_SCENES, *_EPOCHS, "stage3.epochs=1", *_POLICY],
    "image_folder": ["data.height=96", "data.width=128", *_EPOCHS, "stage3.epochs=1", *_POLICY],
}


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_run(snippet: str) -> None:
    exec(compile(snippet, "README.md", "exec"), {})


def test_commands_run_in_the_readmes_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture_tree: Path) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line)[1:] for line in LINES if line.startswith("gfnet ")]
    assert len(commands) >= 6
    for arguments in commands:
        config = arguments[0] if arguments[0] == "demo" else arguments[1]
        sets = [part for change in SHRUNK.get(config, []) for part in ("--set", change)]
        assert main([*(a.replace("TREE", str(picture_tree)) for a in arguments), *sets, "--quiet"]) == 0
    for written in ("demo/report.html", "demo/episodes.gif", "signs/metrics.json", "mine/metrics.json"):
        assert (tmp_path / "runs" / written).is_file()


def test_every_other_line_is_a_make_target_or_a_benchmark() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in LINES:
        program, *rest = shlex.split(line)
        if program == "make":
            assert rest[0] in targets
        elif program == "python":
            assert (ROOT / rest[0]).is_file()
        else:
            assert program == "gfnet", line


def test_what_it_names_exists() -> None:
    for path in re.findall(r"\]\((docs/[^)]+)\)", TEXT):
        assert (ROOT / path).is_file(), path
    assert {"demo", "synthetic_signs", "image_folder"} <= set(shipped_configs())
