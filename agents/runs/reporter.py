"""How a long job reports its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Reporter(Protocol):
    """Shows what a long job is doing; `agents` itself prints nothing."""

    def track(self, title: str) -> Callable[[int, int, dict[str, float]], None]:
        """Adds a line of progress; the result is called with (done, total, figures to show)."""
        ...

    def note(self, text: str) -> None:
        """Shows a message."""
        ...
