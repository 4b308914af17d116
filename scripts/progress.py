"""Progress of long jobs: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from scripts.console import printable

_SECONDS_BETWEEN_LINES = 10.0


class TerminalReporter:
    """One bar for each long job: figures, time taken and time left. Used as a context manager.

    Where the console is no terminal, a job prints a line when it begins, every ten seconds, and when it ends.

    Args:
        console: where to draw.
        quiet: shows only notes.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._prints_lines = not quiet and not console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description:<26}", markup=False),
            BarColumn(bar_width=10),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]:<12}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=quiet or not console.is_terminal,
        )

    def __enter__(self) -> TerminalReporter:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def track(self, title: str) -> Callable[[int, int, dict[str, float]], None]:
        """A function that shows how far a job is; the job's bar or line appears at its first call."""
        task = None
        means: dict[str, float] = {}
        started = last = time.monotonic()

        def advance(done: int, total: int, figures: dict[str, float]) -> None:
            nonlocal task, last
            is_first = task is None
            if task is None:
                task = self._progress.add_task(printable(title), total=total, completed=done, figures="")
            for name, value in figures.items():
                means[name] = 0.95 * means.get(name, value) + 0.05 * value  # smooth enough to read
            shown = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            self._progress.update(task, completed=done, total=total, figures=shown)
            now = time.monotonic()
            if self._prints_lines and (is_first or done == total or now - last >= _SECONDS_BETWEEN_LINES):
                last = now
                self._console.print(f"{title}: {done:,} of {total:,}, {now - started:.0f} s{shown and f', {shown}'}")

        return advance

    def note(self, text: str) -> None:
        """Prints a sentence."""
        self._console.print(text)
