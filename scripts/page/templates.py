"""Templates of pages, filled."""

from __future__ import annotations

import html
import re
from importlib.resources import files
from typing import Any

from classifiers.files import json_text
from scripts.console import printable

_PLACE = re.compile(r"\{\{ (\w+) \}\}")


def fill_page(name: str, title: str, data: Any, *, asks_server: bool = False, **parts: str) -> str:
    """A page from the template `NAME.html`, with `head.html`, `foot.html`, `style.css` and `NAME.js` inside.

    Args:
        name: of the template.
        title: plain text.
        data: what the script reads; see `classifiers.files.json_text`.
        asks_server: whether its script may send requests to the server that the page comes from.
        **parts: HTML for the template's other places.

    Returns:
        The page. Its content security policy allows no other request.

    Raises:
        KeyError: if the template has a place that nothing is given for.
    """
    places = {
        "connect": "connect-src 'self'; " if asks_server else "",
        "title": html.escape(printable(title)),
        "style": _template("style.css"),
        "script": _template(f"{name}.js"),
        "data": script_json(data),
        **parts,
    }
    for shared in ("head", "foot"):
        places[shared] = _filled(f"{shared}.html", places).removesuffix("\n")
    return _filled(f"{name}.html", places)


def _filled(name: str, places: dict[str, str]) -> str:
    return _PLACE.sub(lambda place: places[place[1]], _template(name))


def script_json(data: Any) -> str:
    """JSON that can stand inside a `<script>` element: nothing in it ends the element or begins a comment.

    Raises:
        ValueError: if a number is NaN or infinite.
    """
    return json_text(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _template(name: str) -> str:
    return files("scripts.page").joinpath(name).read_text(encoding="utf-8")
