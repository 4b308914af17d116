"""Templates of pages, filled."""

from __future__ import annotations

import html
import re
from importlib.resources import files
from typing import Any

from classifiers.files import json_text
from scripts.console import printable

_PLACE = re.compile(r"\{\{ (\w+) \}\}")


def fill_page(name: str, title: str, data: Any, **parts: str) -> str:
    """A page from the template `NAME.html`, with `style.css` and `NAME.js` inside it.

    Args:
        name: of the template.
        title: plain text.
        data: what the script reads; see `classifiers.files.json_text`.
        **parts: HTML for the template's other places.

    Returns:
        The page. Its content security policy allows no request but to the server that it comes from, if any.

    Raises:
        KeyError: if the template has a place that nothing is given for.
    """
    places = {
        "title": html.escape(printable(title)),
        "style": _template("style.css"),
        "script": _template(f"{name}.js"),
        "data": script_json(data),
        **parts,
    }
    return _PLACE.sub(lambda place: places[place[1]], _template(f"{name}.html"))


def script_json(data: Any) -> str:
    """JSON that can stand inside a `<script>` element: nothing in it ends the element or begins a comment.

    Raises:
        ValueError: if a number is NaN or infinite.
    """
    return json_text(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _template(name: str) -> str:
    return files("scripts.page").joinpath(name).read_text(encoding="utf-8")
