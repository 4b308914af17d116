"""The house rules: which way imports point, where third parties live, and that public names are explained."""

from __future__ import annotations

import ast
import graphlib
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("classifiers", "gfnet_env", "agents", "scripts", "website")
"""A package may import those before it."""

LAYERS: dict[str, tuple[set[str], ...]] = {
    "classifiers": (
        {"files", "devices", "checks"},
        {"tensor_files", "settings"},
        {"networks", "data"},
        {"inference", "training"},
        {"checkpoints"},
        {"published"},
    ),
    "agents": ({"policies"}, {"algorithms", "evaluation"}, {"recognition"}, {"runs"}, {"leaderboard"}, {"dataset"}),
}
"""Folders and modules of a package, lowest layer first. One may import those of lower layers, and none of its own."""

HOMES = {
    "gymnasium": {"gfnet_env", "agents", "scripts", "website"},
    "stable_baselines3": {"agents"},
    "sb3_contrib": {"agents"},
    "rich": {"scripts"},
    "argparse": {"scripts", "website"},
    "matplotlib": {"scripts"},
    "pydantic": {"classifiers", "gfnet_env", "agents", "scripts"},
    "yaml": {"agents", "scripts", "website"},
    "mkdocs_gen_files": {"website"},
}
OF_THEIR_OWN = {("agents.recognition.onnx_runner", "argparse")}
"""What a program that is exported imports, too."""

PATHS = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in PATHS}


@cache
def _imports(path: Path) -> frozenset[str]:
    """The modules that a file imports; of our own, the module that a name comes from."""

    def found() -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in MODULES else str(node.module)

    return frozenset(found())


def _part(module: str) -> str:
    """The folder or module right below the package; empty for the package's own `__init__`."""
    return [*module.split("."), ""][1]


def _layer(module: str) -> int:
    """The layer of a module within its package; `__init__` lies above all."""
    package, part = module.split(".")[0], _part(module)
    layers = LAYERS[package]
    if not part:
        return len(layers)
    found = [rank for rank, parts in enumerate(layers) if part in parts]
    assert len(found) == 1, f"{package}/{part} belongs to one layer of LAYERS[{package!r}]"
    return found[0]


def _points_up(module: str, imported: str) -> bool:
    """Whether an import within a package breaks its layers."""
    return _part(module) != _part(imported) and _layer(imported) >= _layer(module)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_and_third_parties_stay_home(path: Path) -> None:
    module = _module(path)
    package = module.split(".")[0]
    for name in _imports(path):
        top = name.split(".")[0]
        assert package in HOMES.get(top, {package}) or (module, top) in OF_THEIR_OWN, f"{module} imports {name}"
        if top in PACKAGES:
            assert PACKAGES.index(top) <= PACKAGES.index(package), f"{module} imports {name}"
        if top == package and package in LAYERS:
            assert not _points_up(module, name), f"{module} imports {name}, which lies above it or beside it"


def test_layers_tell_up_from_down() -> None:
    assert _points_up("classifiers.networks.costs", "classifiers.training.loop")
    assert _points_up("classifiers.training.loop", "classifiers.inference.frozen")
    assert _points_up("agents.policies.weights", "agents")
    assert not _points_up("classifiers.training.loop", "classifiers.networks.costs")
    assert not _points_up("agents.runs.pipeline", "agents.runs.config")
    with pytest.raises(AssertionError, match="classifiers/elsewhere belongs to one layer"):
        _layer("classifiers.elsewhere.module")


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: {name for name in _imports(path) if name in MODULES} for module, path in MODULES.items()}

    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle

    assert len(order) == len(MODULES)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 600
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert (node.end_lineno or 0) - first.lineno < 80, f"{node.name} is long"


@pytest.mark.parametrize("package", ["classifiers", "gfnet_env", "agents"])
def test_public_names_are_explained(package: str) -> None:
    __import__(package)
    module = sys.modules[package]
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__ and len(thing.__doc__) > 30, name


def test_every_module_says_what_it_is_for() -> None:
    for path in PATHS:
        text = path.read_text()
        assert not text or ast.get_docstring(ast.parse(text)), path


def test_every_folder_says_what_lives_there() -> None:
    for path in PATHS:
        if path.name == "__init__.py" and path.parent.parent != ROOT:
            docstring = ast.get_docstring(ast.parse(path.read_text()))
            assert docstring and len(docstring) > 150, f"{path}: a paragraph"


def test_the_page_on_architecture_is_true() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    files = re.findall(r"`((?:classifiers|gfnet_env|agents)/[\w/]+\.py)`", page.split("## One owner")[0])
    folders = {f"`{path.parent.relative_to(ROOT)}/`" for path in PATHS if len(path.relative_to(ROOT).parts) == 3}

    assert len(files) > 20
    assert [name for name in files if not (ROOT / name).is_file()] == []
    assert [name for name in files if files.count(name) > 1] == []
    assert [folder for folder in sorted(folders) if folder not in page] == []
