"""CONTRIBUTING and the lists in README are true: additions work as they stand there, extras are those that exist."""

from __future__ import annotations

import datetime
import os
import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium
import yaml

from agents.algorithms.registry import AGENTS
from agents.runs.config_files import load_config
from classifiers.data.registry import COLLECTIONS
from classifiers.networks.encoders import ENCODERS
from gfnet_env import TASKS

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def test_additions_work_in_ten_lines_each() -> None:
    names: dict[str, Any] = {"__name__": "mine"}

    try:
        for snippet in SNIPPETS:
            exec(compile(snippet, "CONTRIBUTING.md", "exec", dont_inherit=True), names)

        env = gymnasium.make("Squares-v0")
        observation, info = env.reset(seed=0)
        assert observation["features"].shape == (8, 8, 8) and info["patch_size"] == 32
        assert names["agent"].num_timesteps == 16 and len(SNIPPETS) == 5
        env.close()
        assert len(load_config("image_folder", ["data={kind: squares}"]).data.open("train")) == 40
    finally:
        for registry, name in ((AGENTS, "mine"), (ENCODERS, "tiny"), (TASKS, "Squares-v0"), (COLLECTIONS, "squares")):
            registry.pop(name, None)
        gymnasium.registry.pop("Squares-v0", None)
    for snippet in SNIPPETS:
        code = [line for line in snippet.splitlines() if line.strip() and "import " not in line]
        assert len(code) <= 10


def test_the_installation_page_lists_every_extra_and_no_other() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")

    listed = re.findall(r"`([a-z]+)`", "".join(re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)))

    assert sorted(listed) == sorted(extras)


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (?!Unreleased$)(\S+) \((\S+)\)$", changelog, re.MULTILINE)
    days = [datetime.date.fromisoformat(day) for _, day in released]

    assert released[0][0] == version and days == sorted(days, reverse=True)
    assert len(released) == len(re.findall(r"^## (?!Unreleased$)", changelog, re.MULTILINE))
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version


def test_commit_hooks_are_what_make_check_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"] for repository in config["repos"] for hook in repository["hooks"]]
    check = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]

    assert hooks == [".venv/bin/ruff format", ".venv/bin/ruff check", ".venv/bin/mypy"]
    assert all(entry.replace(".venv/bin", "$(BIN)") in check for entry in hooks)


def test_the_workflow_runs_what_exists() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(READY)", ".venv/.ready")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    jobs = workflow["jobs"]
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}

    assert workflow[True].keys() == {"push", "pull_request"}  # YAML 1.1 reads `on` as true
    assert commands["linux"][-1] == ".ci/run" and os.access(ROOT / ".ci" / "run", os.X_OK)
    assert jobs["quick"]["strategy"]["matrix"]["os"] == ["macos-latest", "windows-latest"]
    assert commands["quick"][-1] == "python -m pytest"  # what `make test` runs
    for command in chain.from_iterable(commands.values()):
        for target in re.findall(r"^make (\S+)", command):
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
        for extra in re.findall(r"\.\[(\w+)\]", command):
            assert extra in extras
    for job in jobs.values():
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert [action.partition("@")[0] for action in used] == ["actions/checkout", "actions/setup-python"]


def test_templates_of_issues_ask_for_something() -> None:
    for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))

        assert form.keys() == {"name", "description", "labels", "body"}, path
        assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_the_comparison_names_our_files_and_a_commit_of_others() -> None:
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    ours, *others = page.split("## Where it is written")[1].split("\n\n")[1:]
    table = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|")]

    assert all((ROOT / name).is_file() for name in re.findall(r"`([\w/]+\.py)`", ours))
    assert (
        [re.match(r"\[([\w-]+)\]\(https://github.com/.*commit [0-9a-f]{7}", text)[1] for text in others]
        == [  # type: ignore[index]
            cell.strip() for cell in table[0][2:]
        ]
    )
    assert {len(row) for row in table} == {6}
