"""The raw results of a leaderboard: a line of CSV for each training."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from classifiers.files import write_text


class Point(NamedTuple):
    """A point of a learning curve.

    Attributes:
        steps: environment steps so far.
        cpu_seconds: of training so far, evaluations left out.
        value: the score on validation images, or the accuracy after all glimpses where the task has no scale.
    """

    steps: int
    cpu_seconds: float
    value: float


@dataclass(frozen=True)
class Row:
    """The result of one training.

    Attributes:
        task: id of the environment.
        agent: its name.
        settings: what was changed, by dotted name.
        seed: of everything random.
        steps: environment steps that were asked for.
        steps_taken: environment steps that were made: rounded up to whole rollouts, 0 for policies that learn nothing.
        accuracy: after each of the T glimpses, on test images.
        returns: mean return on them.
        score: mean score on them, 0 as random and 1 as the reference; NaN where the task has no scale.
        looks: mean number of glimpses on them.
        multiply_adds: mean multiply-adds of the classifier on them.
        cpu_seconds: of training, evaluations left out.
        curve: along the training, on validation images.
        version: of this package.
        commit: of this package, where it was known.
        torch: version of PyTorch.
        device: where the networks ran.
        date: when the training ended, in UTC.
        command: what was typed.
    """

    task: str
    agent: str
    settings: dict[str, Any]
    seed: int
    steps: int
    steps_taken: int
    accuracy: tuple[float, ...]
    returns: float
    score: float
    looks: float
    multiply_adds: float
    cpu_seconds: float
    curve: tuple[Point, ...]
    version: str
    commit: str
    torch: str
    device: str
    date: str
    command: str

    @property
    def label(self) -> str:
        """The agent with the settings that were changed."""
        changed = (f"{name.removeprefix('options.')}={json.dumps(value)}" for name, value in self.settings.items())
        return " ".join([self.agent, *changed])

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells trainings apart: task, agent with its settings, steps and seed."""
        return self.task, self.label, self.steps, self.seed

    @property
    def value(self) -> float:
        """What rows are compared by: the score, or the accuracy after all glimpses where the task has no scale."""
        return self.accuracy[-1] if math.isnan(self.score) else self.score


COLUMNS = tuple(field.name for field in fields(Row))
"""The columns of a CSV file, in their order."""


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of a CSV file.

    Args:
        path: the file.

    Returns:
        Its rows.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if its columns are others, a cell can't be read, or a training is there twice; names the line.
    """
    lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise ValueError(f"{path} has the columns {lines[:1]}; a leaderboard of this version has {', '.join(COLUMNS)}")
    rows: dict[tuple[str, str, int, int], Row] = {}
    for number, cells in enumerate(lines[1:], start=2):
        try:
            row = _row(dict(zip(COLUMNS, cells, strict=True)))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number} can't be read ({error}); delete it") from error
        if row.key in rows:
            raise ValueError(f"{path}, line {number} repeats {row.task}, {row.label}, seed {row.seed}; delete it")
        rows[row.key] = row
    return list(rows.values())


def read_folder(folder: Path) -> list[Row]:
    """Reads the rows of all CSV files in a folder, which must be of one version of this package.

    Args:
        folder: holds them.

    Returns:
        The rows, file by file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if one can't be read, or its rows can't be compared with those before it.
    """
    rows: list[Row] = []
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no .csv file; pass a folder of rows, such as docs/leaderboard")
    for path in paths:
        found = read_rows(path)
        check_version(path, found, rows[0].version if rows else found[0].version if found else "")
        known = {row.key for row in rows}
        for row in found:
            if row.key in known:
                raise ValueError(f"{path} repeats {row.task}, {row.label}, seed {row.seed} of another file; delete it")
        rows += found
    return rows


def check_version(path: Path, rows: Sequence[Row], version: str) -> None:
    """Checks that all rows of a file were measured with one version, since tasks and agents change between versions.

    Raises:
        ValueError: names the first line of another version.
    """
    for number, row in enumerate(rows, start=2):
        if row.version != version:
            raise ValueError(
                f"{path}, line {number} was measured with version {row.version}, the others are of {version}; measure "
                "it again, or move it to another folder"
            )


def append_row(path: Path, row: Row) -> None:
    """Appends a row to a CSV file, which is made if there is none; a training that is there already stays as it is.

    Several processes may append to one file.

    Raises:
        ValueError: if the file can't be read.
        OSError: if it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        rows = read_rows(path) if path.is_file() else []
        if row.key not in {known.key for known in rows}:
            write_rows(path, [*rows, row])


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes a CSV file, whole or not at all."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(row) for row in rows)
    write_text(path, stream.getvalue())


def _cells(row: Row) -> list[str]:
    made = {
        "settings": json.dumps(row.settings) if row.settings else "",
        "accuracy": " ".join(f"{value:.4f}" for value in row.accuracy),
        "curve": " ".join(f"{steps}:{seconds:.1f}:{value:.4f}" for steps, seconds, value in row.curve),
        **{name: f"{getattr(row, name):.4f}" for name in ("returns", "score", "looks")},
        "multiply_adds": f"{row.multiply_adds:.0f}",
        "cpu_seconds": f"{row.cpu_seconds:.1f}",
    }
    return [made[name] if name in made else str(getattr(row, name)) for name in COLUMNS]


def _row(cells: dict[str, str]) -> Row:
    points = (point.split(":") for point in cells["curve"].split())
    read: dict[str, Any] = {
        "settings": dict(json.loads(cells["settings"] or "{}")),
        "accuracy": tuple(float(value) for value in cells["accuracy"].split()),
        "curve": tuple(Point(int(steps), float(seconds), float(value)) for steps, seconds, value in points),
        **{name: int(cells[name]) for name in ("seed", "steps", "steps_taken")},
        **{name: float(cells[name]) for name in ("returns", "score", "looks", "multiply_adds", "cpu_seconds")},
    }
    if not read["accuracy"]:
        raise ValueError("there is no accuracy")
    return Row(**{**cells, **read})
