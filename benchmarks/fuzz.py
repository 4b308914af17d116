"""Looks for inputs to the `gfnet` command that end in a traceback, a hang, executed code or a silent NaN.

    python benchmarks/fuzz.py                     1,000 cases: configs, settings, pictures, run files, options
    python benchmarks/fuzz.py --replay run:17     one case again, with its traceback

Cases are drawn from the seed, run through `scripts.cli.main` in a process that is watched, and counted by how they
ended: with a result (`done`), with a sentence (`refused`, exit code 1; `usage`, 2), or with a fault, any of which makes
this program's exit code 1. `vague` are sentences of other people's libraries, from errors that nobody foresaw.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from fuzzing.case import CANARY, Case, prepare
from fuzzing.configs import change_case, config_case
from fuzzing.options import option_case
from fuzzing.pictures import image_case
from fuzzing.run_files import run_case
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from scripts.cli import main as gfnet

KINDS = {"config": config_case, "set": change_case, "image": image_case, "run": run_case, "option": option_case}
GOOD = ("done", "refused", "usage", "vague")
FAULTS = ("traceback", "hang", "executed", "nan", "silent", "exit code", "crash")
_EXTRA_MEMORY = 6 * 2**30
"""Bytes that a case may ask for beyond what the process has: more is refused by the system, not looked for by it."""

_GRACE = 30.0
"""Seconds over the limit that the alarm has to wake a case before its process is killed."""


class Outcome(NamedTuple):
    """How a case ended.

    Attributes:
        name: one of `GOOD` or `FAULTS`.
        detail: what it printed or raised.
        note: what was wrong with its arguments.
        seconds: that it took.
    """

    name: str
    detail: str
    note: str
    seconds: float


class _Hang(BaseException):
    """A case took too long; no handler of errors catches it."""


def _hang(number: int, frame: FrameType | None) -> None:
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "?"
    raise _Hang(where)


def run_case_of(kind: str, index: int, seed: int, base: Path, limit: float, *, is_replay: bool = False) -> Outcome:
    """Draws a case into a folder of its own and runs it."""
    folder = Path(tempfile.mkdtemp(dir=base.parent, prefix="case_"))
    case = KINDS[kind](random.Random(f"{seed}/{kind}/{index}"), folder, base)
    if is_replay:
        print("gfnet", *map(repr, case.arguments))
    before = Path.cwd()
    os.chdir(folder)
    started = time.perf_counter()
    try:
        name, detail = _ending(case, folder, limit, is_replay)
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(name, detail, case.note, time.perf_counter() - started)


def _ending(case: Case, folder: Path, limit: float, is_replay: bool) -> tuple[str, str]:
    printed, errors, before = io.StringIO(), io.StringIO(), _files(folder)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            code = gfnet(case.arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except _Hang as error:
        return "hang", f"more than {limit:g} s, at {error}"
    except BaseException as error:
        if is_replay:
            traceback.print_exc()
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        return "traceback", f"{type(error).__name__}: {error} ({where})"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if is_replay:
        print(printed.getvalue(), errors.getvalue())
    written = [path for path, changed in _files(folder).items() if changed != before.get(path)]
    return _judged(case, code, printed.getvalue(), errors.getvalue(), written)


def _files(folder: Path) -> dict[Path, int]:
    """When each file was last written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def _judged(case: Case, code: int, printed: str, errors: str, written: list[Path]) -> tuple[str, str]:
    if any(path.name == CANARY for path in written):
        return "executed", "code in a file was executed"
    if code not in (0, 1, 2):
        return "exit code", str(code)
    if "Traceback (most recent call last)" in errors:
        return "traceback", errors
    if code and not errors.strip():
        return "silent", f"exit code {code} and no sentence"
    if code:
        return "vague" if "GFNET_DEBUG=1" in errors else ("refused", "usage")[code - 1], errors.strip()
    if case.must_fail:
        return "nan", "networks with NaN weights gave a result"
    found = next(_not_finite(printed, "--json" in case.arguments, written), None)
    return ("nan", found) if found else ("done", "")


def _not_finite(printed: str, is_json: bool, written: list[Path]) -> Iterator[str]:
    """Where a result holds a NaN: in what was printed, in JSON that was written, or in weights and records."""
    if re.search(r"(?<![\w.])nan(?!\w)", printed, re.IGNORECASE):
        yield "printed"
    if is_json and printed.strip():
        yield from _bad_json(printed, "printed")
    for path in written:
        if path.suffix == ".json":
            yield from _bad_json(path.read_text(), path.name)
        elif path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                yield from _bad_json(line, path.name)
        elif path.suffix == ".safetensors":
            for key, value in load_file(path).items():
                if value.is_floating_point() and bool(torch.isnan(value).any()):
                    yield f"{path.name}: {key}"


def _bad_json(text: str, name: str) -> Iterator[str]:
    found: list[str] = []
    try:
        json.loads(text, parse_constant=found.append)
    except ValueError:
        yield f"{name} is not JSON"
    yield from (f"{name}: {constant}" for constant in found)


def _worker(connection: Connection, seed: int, base: Path, limit: float) -> None:
    """Runs the cases that it is sent, one after another."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _hang)
    faulthandler.disable()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _EXTRA_MEMORY,) * 2)
    quiet = os.open(os.devnull, os.O_WRONLY)
    for handle in (1, 2):  # what libraries in C print
        os.dup2(quiet, handle)
    while (sent := connection.recv()) is not None:
        kind, index = sent
        try:
            outcome = run_case_of(kind, index, seed, base, limit)
        except Exception as error:
            outcome = Outcome("crash", f"the case could not be drawn or judged: {error!r}", "", 0.0)
        connection.send(outcome)


class _Watched:
    """A worker that is started anew when it dies, or when not even an alarm wakes it."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self._process: multiprocessing.process.BaseProcess | None = None

    def run(self, kind: str, index: int, limit: float) -> Outcome:
        """One case."""
        if self._process is None:
            self._connection, theirs = multiprocessing.Pipe()
            context = multiprocessing.get_context("spawn")
            self._process = context.Process(target=_worker, args=(theirs, *self._arguments), daemon=False)
            self._process.start()
            theirs.close()
        self._connection.send((kind, index))
        try:
            if self._connection.poll(limit + _GRACE):
                outcome: Outcome = self._connection.recv()
                return outcome
            name, detail = "hang", "no alarm wakes it"
        except EOFError:
            self._process.join(5)
            name, detail = "crash", f"the process died ({self._process.exitcode})"
        self._process.kill()
        self._process.join()
        self._process = None
        return Outcome(name, detail, "", 0.0)

    def stop(self) -> None:
        """Ends the worker when it has nothing to do."""
        if self._process is not None:
            self._connection.send(None)
            self._process.join()


def fuzz(kinds: list[str], cases: int, seed: int, limit: float, console: Console) -> dict[tuple[str, int], Outcome]:
    """Runs cases, evenly of all kinds, and tells how each ended."""
    outcomes: dict[tuple[str, int], Outcome] = {}
    with _workplace() as base:
        worker = _Watched(
            seed, base, limit
        )  # not a daemon, whose cases could not load images with processes of their own
        for number in range(cases):
            kind, index = kinds[number % len(kinds)], number // len(kinds)
            outcome = outcomes[kind, index] = worker.run(kind, index, limit)
            if outcome.name in FAULTS or outcome.name == "vague":
                line = f"{outcome.name} {kind}:{index} [{outcome.note}] {outcome.detail}"
                console.print(line[:600], markup=False, soft_wrap=True)
        worker.stop()
    return outcomes


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    """A folder with what cases start from, and a cache of its own."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        base.mkdir()
        os.environ["GFNET_CACHE"] = str(Path(name) / "cache")
        prepare(base)
        yield base


def _table(outcomes: dict[tuple[str, int], Outcome]) -> Table:
    counts = Counter((kind, outcome.name) for (kind, _), outcome in outcomes.items())
    table = Table(title=f"{len(outcomes)} cases")
    for column in ("kind", *GOOD, *FAULTS):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind in dict.fromkeys(kind for kind, _ in outcomes):
        table.add_row(kind, *(str(counts[kind, name]) for name in (*GOOD, *FAULTS)))
    return table


def main() -> int:
    """Runs the cases; 1 if any ended in a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--limit", type=float, default=30.0, help="seconds that a case may take")
    parser.add_argument("--replay", metavar="KIND:INDEX", help="run this case alone, and show all of it")
    options = parser.parse_args()
    console = Console(highlight=False, width=130)
    if options.replay:
        kind, index = options.replay.split(":")
        signal.signal(signal.SIGALRM, _hang)
        with _workplace() as base:
            print(run_case_of(kind, int(index), options.seed, base, options.limit, is_replay=True))
        return 0
    outcomes = fuzz(options.kinds, options.cases, options.seed, options.limit, console)
    console.print(_table(outcomes))
    return int(any(outcome.name in FAULTS for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
