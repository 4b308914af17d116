"""The house rules: which way imports point, where third parties live, and that public names are explained."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("classifiers", "gfnet_env", "agents", "scripts")
HOMES = {
    "gymnasium": {"gfnet_env", "agents", "scripts"},
    "stable_baselines3": {"agents"},
    "sb3_contrib": {"agents"},
    "rich": {"scripts"},
    "argparse": {"scripts"},
    "matplotlib": {"scripts"},
    "pydantic": {"agents"},
    "yaml": {"agents", "scripts"},
}
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_and_third_parties_stay_home(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for name in _imports(path):
        top = name.split(".")[0]
        if top in ROOMS:
            assert ROOMS.index(top) <= ROOMS.index(room), f"{room} imports {name}"
        assert room in HOMES.get(top, {room}), f"{room} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert (node.end_lineno or 0) - first.lineno < 50, f"{node.name} is long"


@pytest.mark.parametrize("package", ["classifiers", "gfnet_env", "agents"])
def test_public_names_are_explained(package: str) -> None:
    __import__(package)
    module = sys.modules[package]
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__ and len(thing.__doc__) > 30, name


def test_every_module_says_what_it_is_for() -> None:
    for path in MODULES:
        text = path.read_text()
        assert not text or ast.get_docstring(ast.parse(text)), path
