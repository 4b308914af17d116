"""The lower bounds of our dependencies are true: everything that touches their interfaces works with exactly these."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from oldest_versions import REUSED, TESTS, oldest_versions
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def test_every_dependency_has_a_lower_bound_to_test() -> None:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

    assert set(oldest_versions()) == {Requirement(line).name for line in requirements} - set(REUSED)
    assert all((ROOT / test.split("::")[0]).is_file() for test in TESTS)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # it installs from a package index
def test_the_oldest_versions_work(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "tests" / "oldest_versions.py"), str(tmp_path / "oldest")]

    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)

    if "(from versions: none)" in done.stderr:
        pytest.skip("no package index can be reached that has the oldest versions")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    used = dict(line.split("==") for line in done.stdout.splitlines() if "==" in line and " " not in line)
    assert {name: Version(version) for name, version in used.items()} == {
        name: Version(version) for name, version in oldest_versions().items()
    }
    assert " passed" in done.stdout and " skipped" not in done.stdout
