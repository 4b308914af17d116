"""What a run reports: progress to a person, and curves to `metrics.jsonl` and TensorBoard."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter

from classifiers.files import json_text, write_text

_SECONDS = "seconds:"  # entries with this prefix hold the time that a stage has taken


class Reporter(Protocol):
    """Shows what a long job is doing; `agents` itself prints nothing."""

    def track(self, title: str) -> Callable[[int, int, dict[str, float]], None]:
        """Adds a line of progress; the result is called with (done, total, figures to show)."""
        ...

    def note(self, text: str) -> None:
        """Shows a message."""
        ...


class RunLog:
    """The measurements of a run: one entry for each (stage, step), however often the run is interrupted.

    Also keeps the time that each stage and the whole run have taken, over all processes up to their last `write`.

    Args:
        path: the `.jsonl` file.
        tensorboard: folder of the event files.

    Raises:
        ValueError: if the file is damaged.
    """

    def __init__(self, path: Path, tensorboard: Path) -> None:
        self._path = path
        self._tensorboard = tensorboard
        self._events: SummaryWriter | None = None  # made with the first figure: a run may end before it has one
        self._stage: str | None = None
        self._since = time.monotonic()
        self._lines = {(line["stage"], line["step"]): line for line in _read(path)}

    def add(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Adds figures to those of a step, leaving out NaN and infinity; the next `write` saves them."""
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._lines.setdefault((stage, step), {"stage": stage, "step": step}).update(figures)
        self._events = self._events or SummaryWriter(str(self._tensorboard))
        for name, value in figures.items():
            self._events.add_scalar(f"{stage}/{name}", value, step)

    def last_step(self, stage: str) -> int:
        """The last step of a stage that has figures; 0 if none has."""
        return max((step for name, step in self._lines if name == stage), default=0)

    def begin(self, stage: str | None) -> None:
        """Counts the time from here on towards a stage; None: only towards the run."""
        self._count()
        self._stage = stage

    def seconds(self) -> float:
        """Time that the whole run has taken so far, earlier processes included."""
        self._count()
        return float(self._lines[_SECONDS + "total", 0]["seconds"])

    def write(self) -> None:
        """Writes all lines atomically.

        Raises:
            OSError: if they can't be written.
        """
        self._count()
        write_text(self._path, "".join(json_text(line) + "\n" for line in self._lines.values()))
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Closes what is open; what the last `write` did not save is lost."""
        if self._events is not None:
            self._events.close()

    def _count(self) -> None:
        now = time.monotonic()
        for stage in filter(None, ("total", self._stage)):
            name = _SECONDS + stage
            line = self._lines.setdefault((name, 0), {"stage": name, "step": 0, "seconds": 0.0})
            line["seconds"] += now - self._since
        self._since = now


def curve(path: Path, stage: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one curve of a `metrics.jsonl`; empty where there is none.

    Raises:
        ValueError: if the file is damaged.
    """
    lines = [line for line in _read(path) if line["stage"] == stage and line.get(name) is not None]
    points = sorted((line["step"], line[name]) for line in lines)
    return [step for step, _ in points], [value for _, value in points]


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = json.loads(text, parse_constant=_raise_for)
            is_whole = isinstance(line["stage"], str) and isinstance(line["step"], int)
            is_whole &= all(isinstance(value, int | float | None) for key, value in line.items() if key != "stage")
        except (ValueError, TypeError, KeyError):
            is_whole = False
        if not is_whole:
            raise ValueError(f"{path}, line {number} is damaged; delete the line: only one point of a curve is lost")
        lines.append(line)
    return lines


def _raise_for(constant: str) -> float:
    raise ValueError(constant)
