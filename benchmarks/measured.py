"""What the speed benchmarks measured: rows of a CSV file, and the tables of docs/speed.md made from them.

A benchmark adds its rows with `Measured`. `python benchmarks/speed.py page` writes the tables between the marks
`<!-- TABLE -->` and `<!-- / -->` of the page.
"""

from __future__ import annotations

import csv
import json
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import takewhile
from pathlib import Path

import torch

from agents.runs.folder import made_by

DOCS = Path(__file__).parent.parent / "docs"
ROWS, PAGE = DOCS / "speed.csv", DOCS / "speed.md"

Cell = str | float


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        table: name of the table.
        cells: its columns and what they hold, as JSON.
        version: of this package.
        commit: of this package.
        torch: version of PyTorch.
        device: where the networks ran.
        machine: its processor, and how many threads PyTorch had.
        date: of the measurement, in UTC.
        command: what was typed.
    """

    table: str
    cells: str
    version: str
    commit: str
    torch: str
    device: str
    machine: str
    date: str
    command: str


COLUMNS = tuple(field.name for field in fields(Row))


class Measured:
    """Prints the rows of a table as they are measured, and keeps them in a file.

    Args:
        table: its name.
        path: the file; None keeps nothing.
        device: where the networks run.
    """

    def __init__(self, table: str, path: Path | None, device: str = "cpu") -> None:
        self._table, self._path, self._device, self._has_header = table, path, device, False

    def add(self, **cells: Cell) -> None:
        """Adds a row; names of columns have spaces for underscores."""
        named = {name.replace("_", " "): value for name, value in cells.items()}
        if not self._has_header:
            print("\n".join(_header(named)), flush=True)
            self._has_header = True
        print(_line(named), flush=True)
        if self._path is not None:
            origin = made_by(self._device) | {"machine": f"{_processor()}, threads: {torch.get_num_threads()}"}
            append(self._path, Row(self._table, json.dumps(named), **origin))


def append(path: Path, row: Row) -> None:
    """Adds a row to a file, and a header to a new one."""
    is_new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(COLUMNS)
        writer.writerow([getattr(row, name) for name in COLUMNS])


def read(path: Path) -> list[Row]:
    """The rows of a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Row(**each) for each in csv.DictReader(file)]


def page(text: str, rows: list[Row]) -> str:
    """A page whose marked tables hold the newest rows: of rows with equal first columns, which are text, the last.

    Args:
        text: the page.
        rows: of all tables.

    Returns:
        The page with its tables.
    """
    return fill(text, lambda name: table([row for row in rows if row.table == name]))


def fill(text: str, table_of: Callable[[str], str]) -> str:
    """A page whose marked places `<!-- NAME -->` to `<!-- / -->` hold what a function makes of their names."""

    def filled(mark: re.Match[str]) -> str:
        return f"<!-- {mark[1]} -->\n\n{table_of(mark[1])}\n\n<!-- / -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- / -->", filled, text, flags=re.DOTALL)


def table(rows: list[Row]) -> str:
    """The newest rows as Markdown, and a line that says what measured them."""
    newest: dict[tuple[str, ...], Row] = {}
    for row in rows:
        newest[tuple(takewhile(lambda value: isinstance(value, str), json.loads(row.cells).values()))] = row
    cells = [json.loads(row.cells) for row in newest.values()]
    origins = dict.fromkeys(
        f"`{row.command}`; version {row.version}, commit {row.commit[:7]}, torch {row.torch}, {row.machine}"
        for row in newest.values()
    )
    return "\n".join([*_header(cells[0]), *map(_line, cells), "", "\n".join(f"({each})" for each in origins)])


def _header(cells: dict[str, Cell]) -> list[str]:
    return [f"| {' | '.join(cells)} |", f"|{'---|' * len(cells)}"]


def _line(cells: dict[str, Cell]) -> str:
    return f"| {' | '.join(map(_shown, cells.values()))} |"


def _shown(value: Cell) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _processor() -> str:
    found = (
        re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        if Path("/proc/cpuinfo").is_file()
        else None
    )
    return found[1] if found else platform.processor()
