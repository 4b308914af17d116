"""The examples of other RL libraries: each learns where to look, in a process of its own.

Each is skipped where its library is not installed: RLlib and the others can't share an environment (`make rllib`).
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARIES = {"torchrl_ppo.py": "torchrl", "rllib_ppo.py": "ray"}


@pytest.mark.slow
@pytest.mark.parametrize("example", LIBRARIES)
def test_example_learns(example: str, tmp_path: Path) -> None:
    """Random looks recognize 0.53 of the scenes after two looks."""
    if importlib.util.find_spec(LIBRARIES[example]) is None:
        pytest.skip(f"{LIBRARIES[example]} is not installed")
    options = ("--total-steps", "15000", "--num-scenes", "1000", "--test-scenes", "300", "--seed", "0")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}

    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example), *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^ *\d+ steps: return -?\d\.\d{3}$", done.stdout, re.MULTILINE)) >= 10
    after_two = {
        name: float(share) for name, share in re.findall(r"^(\w+) t=2: (\d\.\d{3})", done.stdout, re.MULTILINE)
    }
    assert after_two["random"] < 0.6
    assert after_two["learned"] > after_two["random"] + 0.15


def test_every_example_is_tested() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(LIBRARIES)
