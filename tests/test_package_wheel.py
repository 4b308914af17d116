"""What a stranger installs: the wheel holds all that is needed, and works where the repository is out of reach."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import TINY

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
VERSION = PROJECT["project"]["version"]
BARE = ("GFNet-SyntheticSigns-v0", "GFNet-SyntheticSignsHard-v0", "GFNet-SyntheticGestures-v0", "GFNet-ImageNet-v0")
"""Ids that need nothing but the installation: the built-in tasks, and sample photos for a pretrained network."""

_BUILD = """
import sys
from hatchling.build import build_sdist, build_wheel
build_wheel(sys.argv[1])
build_sdist(sys.argv[1])
"""

_PLAY = """
import sys
import gymnasium
for env_id in sys.argv[1:]:
    env = gymnasium.make(f"gfnet_env:{env_id}")
    observation, info = env.reset(seed=0)
    terminated = False
    while not terminated:
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    print(env_id, sys.modules["gfnet_env"].__file__)
"""


def _run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Runs a command that must succeed, without the repository on Python's path; gives what it printed."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the build backend in it."""
    folder = tmp_path_factory.mktemp("backend")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1", "--target", str(folder)]
    done = subprocess.run([*pip, *PROJECT["build-system"]["requires"]], capture_output=True, text=True, check=False)
    if "(from versions: none)" in done.stderr:
        pytest.skip("no package index can be reached that has hatchling, the build backend")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def built(backend: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("built")
    _run(sys.executable, "-c", _BUILD, folder, cwd=ROOT, PYTHONPATH=str(backend))
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the wheel in it; third parties' packages are those of the present environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True)
    (wheel,) = built.glob("*.whl")
    _run(folder / "bin" / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # folders that a .pth names are searched, but their own .pth files, as an editable install's, are not read
    (site_packages,) = (folder / "lib").glob("python*/site-packages")
    paths = sysconfig.get_paths()
    (site_packages / "present.pth").write_text("\n".join({paths["purelib"], paths["platlib"]}))
    return folder / "bin"


def _files_of_packages(root: Path) -> set[str]:
    return {
        str(path.relative_to(root))
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def _in_wheel(wheel: Path) -> dict[str, int]:
    """Names and checksums of its files."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_packages_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = _in_wheel(wheel).keys()
    about = {name for name in names if ".dist-info/" in name}

    assert names - about == _files_of_packages(ROOT)
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= {name.split("/", 1)[1] for name in about}
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (archive.read(name).decode() for name in about if name.endswith("/METADATA"))
    assert f"\nVersion: {VERSION}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata and "\nKeywords: " in metadata


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution's content."""
    folder = tmp_path_factory.mktemp("unpacked")
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"gfnet_gym-{VERSION}"


@pytest.mark.slow
def test_source_distribution_holds_all_that_its_tests_and_documents_need(unpacked: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout, which knows the project's files")
    listed = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}

    missing = {name for name in names if not (unpacked / name).is_file()}

    assert not missing and {"LICENSE", "CITATION.cff", "Makefile", "docs/glimpses.png", ".ci/run"} <= names


@pytest.mark.slow
def test_source_distribution_passes_tests_of_its_own(unpacked: Path) -> None:
    pytest_ = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider"]
    tests = ("tests/test_architecture.py", "tests/test_contributing.py", "tests/test_readme.py")

    printed = _run(*pytest_, *tests, "-k", "not snippets and not commands", cwd=unpacked, PYTHONPATH=str(unpacked))

    assert " passed" in printed and "skipped" not in printed


@pytest.mark.slow
def test_environments_run_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    printed = _run(installed / "python", "-c", _PLAY, *BARE, cwd=tmp_path, GFNET_CACHE=str(tmp_path / "cache"))

    played = dict(line.split(maxsplit=1) for line in printed.splitlines())
    assert tuple(played) == BARE
    assert all(Path(file).is_relative_to(installed.parent) for file in played.values())


@pytest.mark.slow
def test_command_runs_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    gfnet, cache = installed / "gfnet", str(tmp_path / "cache")

    version = _run(gfnet, "--version", cwd=tmp_path)
    printed = _run(gfnet, "demo", *TINY, cwd=tmp_path, GFNET_CACHE=cache)
    _run(gfnet, "export", "runs/demo", cwd=tmp_path, GFNET_CACHE=cache)

    assert version == f"gfnet {VERSION}\n"
    assert "12 held-out images" in printed
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    assert (tmp_path / "runs" / "demo" / "onnx" / "onnx_runner.py").is_file()
