"""The API reference: the public names of each package, described by mkdocstrings from their docstrings."""

from __future__ import annotations

import importlib
import inspect

PACKAGES = ("classifiers", "gfnet_env", "agents")


def reference_pages() -> dict[str, str]:
    """A page of directives for each package, one for each name of its `__all__`.

    Returns:
        Markdown by page.
    """
    pages = {"reference/index.md": "# Reference\n\nThe public names of each package.\n\n"}
    for package in PACKAGES:
        module = importlib.import_module(package)
        summary = (inspect.getdoc(module) or "").split("\n")[0]
        pages["reference/index.md"] += f"- [`{package}`]({package}.md): {summary}\n"
        names = "\n".join(f"::: {package}.{name}\n" for name in module.__all__)
        pages[f"reference/{package}.md"] = f"# {package}\n\n{inspect.getdoc(module)}\n\n{names}"
    return pages
