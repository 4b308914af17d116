"""Parts of error messages: near misses, and shortened values."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

_LONGEST = 60  # characters of a value in a message


def check_known(name: str, value: object, known: Collection[str]) -> None:
    """Raises a `ValueError` if the value of `name` is none of the known ones; suggests a similar one."""
    if value not in known:
        raise ValueError(
            f"{name}={value!r} is unknown; {did_you_mean(str(value), known)}pass one of {', '.join(known)}"
        )


def did_you_mean(name: str, known: Iterable[str], prefix: str = "", most: int = 1) -> str:
    """`"did you mean 'NAME'? "`, the prefix put before each of `most` names; an empty text if nothing is similar."""
    near = [repr(prefix + each) for each in difflib.get_close_matches(name, list(known), most)]
    return f"did you mean {' or '.join(near)}? " if near else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def shortened(text: str) -> str:
    """The text on one line, with its middle left out if it is long."""
    text = " ".join(text.split())
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[: half - 2]} ... {text[-half + 3 :]}"
