"""The soak program for some seconds: workers are killed, and no answer is lost or differs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(("part", "library"), [("service", "uvicorn"), ("ray", "ray")])
def test_no_answer_is_lost_or_differs_though_workers_are_killed(part: str, library: str, tiny_run: Path) -> None:
    pytest.importorskip("psutil")
    pytest.importorskip(library)
    words = [part, str(tiny_run), "--minutes", "0.3", "--kill-every", "5", "--workers", "2", "--pictures", "6"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}

    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "soak.py"), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = re.search(r"asked=(\d+), missing=0, differing=0, resent=\d+\), (\d+) kills", done.stdout)
    assert found and int(found[1]) >= 6 and int(found[2]) >= 1, done.stdout
