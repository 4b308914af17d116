"""The fuzzer finds nothing, and would find what there is to find."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _fuzz(tmp_path: Path, *options: str, program: str = "") -> subprocess.CompletedProcess[str]:
    benchmarks = ROOT / "benchmarks"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}{os.pathsep}{benchmarks}"}
    environment["COLUMNS"] = "200"
    command = [sys.executable, program or str(benchmarks / "fuzz.py"), *options]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_cases_end_with_a_result_or_a_sentence(tmp_path: Path) -> None:
    done = _fuzz(tmp_path, "--cases", "200", "--seed", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 cases" in done.stdout


_FAULTY = """
import os
import sys
import time

import fuzz


def faulty(arguments):
    number = faulty.calls = faulty.calls + 1
    if number == 1:
        raise KeyError("x")
    if number == 2:
        time.sleep(60)
    if number == 3:
        open("canary", "w").close()
    if number == 4:
        print("confidence nan")
    if number == 5:
        return 1
    if number == 6:
        return 7
    if number == 7:
        os._exit(9)
    return 0


faulty.calls = 0
fuzz.prepare = lambda base: (base / "config.yaml").write_text("".join(f"key_{i}: {i}\\n" for i in range(30)))
fuzz.gfnet = faulty
if __name__ == "__main__":
    sys.exit(fuzz.main())
"""


@pytest.mark.slow
def test_every_kind_of_fault_is_counted(tmp_path: Path) -> None:
    """A command that is broken in seven ways, one after another."""
    (tmp_path / "faulty.py").write_text(_FAULTY)

    program = str(tmp_path / "faulty.py")
    done = _fuzz(tmp_path, "--cases", "7", "--kinds", "config", "--limit", "2", program=program)

    found = re.findall(r"^(traceback|hang|executed|nan|silent|exit code|crash) config:(\d)", done.stdout, re.MULTILINE)
    assert done.returncode == 1, done.stderr
    assert [name for name, _ in found] == ["traceback", "hang", "executed", "nan", "silent", "exit code", "crash"]
    assert [int(index) for _, index in found] == list(range(7))
