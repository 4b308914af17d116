"""Text printed literally: names of files, folders and classes are never interpreted as markup."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path
from typing import Any

import pydantic
from rich.console import Console
from rich.text import Text

from classifiers.data.decoding import UnreadableImageError
from classifiers.settings import error_sentence
from classifiers.training.loop import NonFiniteLossError

_ROOT = Path(__file__).parent.parent
_OURS = tuple(os.path.join(_ROOT, name, "") for name in ("classifiers", "gfnet_env", "agents", "scripts"))
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
_PYTHON = sysconfig.get_paths()["stdlib"]
_PYDANTIC = os.path.dirname(pydantic.__file__)


class PlainConsole(Console):
    """A console that prints text literally: no markup, emoji codes, highlighting or terminal control codes.

    Where the output is no terminal, lines are as long as they need to be.

    Args:
        stderr: whether it writes to standard error, where it doesn't wrap lines.
        quiet: prints nothing.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, soft_wrap=stderr, markup=False, emoji=False, highlight=False)
        if not self.is_terminal:
            self.width = 1000  # files and pipes have no width: nothing is wrapped

    def render_str(self, text: str, **options: Any) -> Text:
        """Called by Rich for every string that it shows."""
        return super().render_str(printable(text), **options)


def is_our_own(error: Exception) -> bool:
    """Whether an error is a check of ours, which one sentence explains, and not an exception of a library or the user.

    Args:
        error: the exception, as it was caught.

    Returns:
        True if the innermost frame, but for those of Python itself and of pydantic, is in one of our packages. An error
        of the operating system is explained by its sentence unless it comes through code of the user's.
    """
    if isinstance(error, UnreadableImageError):  # torch raises it anew if a worker of its DataLoader found it
        return True
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    files = [file for file in files if not _raises_for_others(file)]
    if isinstance(error, OSError) and error.errno is not None:
        return all(file.startswith((*_OURS, *_LIBRARIES)) for file in files)
    is_a_check = isinstance(error, ValueError | OSError | ModuleNotFoundError | NonFiniteLossError)
    return is_a_check and bool(files) and files[-1].startswith(_OURS)


def _raises_for_others(file: str) -> bool:
    """Whether a file is Python's own or pydantic's: what they raise is the fault, or the check, of their caller."""
    is_python = file.startswith("<frozen ") or (file.startswith(_PYTHON) and not file.startswith((*_LIBRARIES, *_OURS)))
    return is_python or file.startswith(_PYDANTIC)


def format_error(error: Exception) -> str:
    """What went wrong, for people, in one sentence: errors of the operating system as its own programs print them.

    Args:
        error: the exception.

    Returns:
        The sentence.
    """
    if isinstance(error, pydantic.ValidationError):
        return error_sentence(error)
    if isinstance(error, UnreadableImageError):  # torch puts the worker's traceback before it
        return str(error).rpartition(f"{type(error).__name__}: ")[2].strip()
    if not isinstance(error, OSError) or not error.errno:  # errors of our own have no number
        return str(error)
    return f"{error.filename or 'the output'}: {error.strerror}"


def printable(text: str) -> str:
    r"""A text with escapes (`\x1b`, `\udcff`) for what a terminal can't show or would obey; newlines stay."""
    return "".join(
        mark if mark.isprintable() or mark == "\n" else mark.encode("unicode_escape").decode() for mark in text
    )
