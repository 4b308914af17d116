"""Progress bars on the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from scripts.console import printable


class TerminalReporter:
    """One line for each long job: bar, figures, time taken and time left. Used as a context manager.

    Args:
        console: where to draw.
        quiet: shows only notes.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._progress = Progress(
            TextColumn("{task.description:<26}", markup=False),
            BarColumn(bar_width=10),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]:<12}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=quiet,
        )

    def __enter__(self) -> TerminalReporter:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def track(self, title: str) -> Callable[[int, int, dict[str, float]], None]:
        """See `agents.runs.reporter.Reporter.track`; the line appears at its first call."""
        task = None
        means: dict[str, float] = {}

        def advance(done: int, total: int, figures: dict[str, float]) -> None:
            nonlocal task
            if task is None:
                task = self._progress.add_task(printable(title), total=total, completed=done, figures="")
            for name, value in figures.items():
                means[name] = 0.95 * means.get(name, value) + 0.05 * value  # smooth enough to read
            shown = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            self._progress.update(task, completed=done, total=total, figures=shown)

        return advance

    def note(self, text: str) -> None:
        """See `agents.runs.reporter.Reporter.note`."""
        self._console.print(text)
