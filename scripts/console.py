"""Text printed literally: names of files, folders and classes are never interpreted as markup."""

from __future__ import annotations

from typing import Any

import pydantic
from rich.console import Console
from rich.text import Text

from classifiers.settings import error_sentence


class PlainConsole(Console):
    """A console that prints text literally: no markup, emoji codes, highlighting or terminal control codes.

    Args:
        stderr: whether it writes to standard error, where it doesn't wrap lines.
        quiet: prints nothing.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, soft_wrap=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Called by Rich for every string that it shows."""
        return super().render_str(printable(text), **options)


def format_error(error: Exception) -> str:
    """What went wrong, for people, in one sentence: errors of the operating system as its own programs print them.

    Args:
        error: the exception.

    Returns:
        The sentence.
    """
    if isinstance(error, pydantic.ValidationError):
        return error_sentence(error)
    if not isinstance(error, OSError) or not error.errno:  # errors of our own have no number
        return str(error)
    return f"{error.filename or 'the output'}: {error.strerror}"


def printable(text: str) -> str:
    r"""A text with escapes (`\x1b`, `\udcff`) for what a terminal can't show or would obey; newlines stay."""
    return "".join(
        mark if mark.isprintable() or mark == "\n" else mark.encode("unicode_escape").decode() for mark in text
    )
