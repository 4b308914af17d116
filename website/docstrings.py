"""What the code says about itself: docstrings taken apart, and arguments with their types and defaults."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import griffe


@dataclass(frozen=True)
class Argument:
    """An argument of a function.

    Attributes:
        name: as it is passed.
        type: its annotation; empty if there is none.
        default: as it is written in Python; empty if it must be passed.
        text: what the docstring says about it, on one line.
    """

    name: str
    type: str
    default: str
    text: str


def text_of(thing: Any) -> str:
    """A docstring's text before its first section (`Args:` and the like)."""
    sections = griffe.Docstring(inspect.getdoc(thing) or "").parse("google", warnings=False)
    return str(sections[0].value) if sections and sections[0].kind is griffe.DocstringSectionKind.text else ""


def chapters_of(thing: Any) -> dict[str, str]:
    """The chapters of a docstring's text that has headings (`## Rewards`), by their headings."""
    found = {}
    for chapter in text_of(thing).split("\n## ")[1:]:
        heading, _, text = chapter.partition("\n")
        found[heading] = text.strip()
    return found


def arguments_of(function: Callable[..., Any]) -> list[Argument]:
    """The documented arguments of a function, in the docstring's order; of a `partial`, those still to be passed.

    Args:
        function: with a Google-style docstring; a class whose attributes are its arguments is one, too.

    Returns:
        Its arguments; `**kwargs` is named so.
    """
    bound = set()
    if isinstance(function, functools.partial):
        names = list(inspect.signature(function.func).parameters)
        bound = {*names[: len(function.args)], *function.keywords}
        function = function.func
    parameters = inspect.signature(function).parameters
    found = []
    for section in griffe.Docstring(inspect.getdoc(function) or "").parse("google", warnings=False):
        if section.kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes):
            for item in section.value:
                if item.name not in bound:
                    found.append(_argument(item.name, parameters.get(item.name.lstrip("*")), item.description))
    return found


def _argument(name: str, parameter: inspect.Parameter | None, text: str) -> Argument:
    if parameter is None:
        return Argument(name, "", "", " ".join(text.split()))
    empty = inspect.Parameter.empty
    kind = "" if parameter.annotation is empty else str(parameter.annotation)
    default = "" if parameter.default is empty else repr(parameter.default)
    return Argument(name, kind, default, " ".join(text.split()))


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """A Markdown table; bars in cells are escaped."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
