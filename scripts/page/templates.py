"""Pages from the Jinja templates beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from classifiers.files import json_text
from scripts.console import printable

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=lambda value: printable(value) if type(value) is str else value,
    trim_blocks=True,
)
_TEMPLATES.policies["json.dumps_function"] = json_text
_TEMPLATES.policies["json.dumps_kwargs"] = {}


def fill_page(name: str, title: str, data: Any, *, asks_server: bool = False, **parts: Any) -> str:
    """A page from the template `NAME.html`, which extends `page.html`, with the script `NAME.js`.

    Args:
        name: of the template.
        title: plain text.
        data: what the script reads; see `classifiers.files.json_text`.
        asks_server: whether its script may send requests to the server that the page comes from.
        **parts: what the template shows; strings are escaped.

    Returns:
        The page. Its content security policy allows no other request.

    Raises:
        jinja2.UndefinedError: if the template shows something that nothing is given for.
    """
    template = _TEMPLATES.get_template(f"{name}.html")
    return template.render(name=name, title=title, data=data, asks_server=asks_server, **parts)
