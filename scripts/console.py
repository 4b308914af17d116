"""Text on the terminal, as it is: names of files, folders and classes are shown, never interpreted."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text


class PlainConsole(Console):
    """A console that takes no text for markup, emoji codes, something to highlight, or commands to the terminal.

    Args:
        stderr: whether it writes to standard error, there without wrapping lines.
        quiet: prints nothing.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, soft_wrap=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Rich's way from every string to what is shown."""
        return super().render_str(printable(text), **options)


def printable(text: str) -> str:
    r"""A text with escapes (`\x1b`, `\udcff`) for what a terminal can't show or would obey; line ends stay."""
    return "".join(
        mark if mark.isprintable() or mark == "\n" else mark.encode("unicode_escape").decode() for mark in text
    )
