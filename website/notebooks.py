"""Notebooks as pages, with the outputs that are stored in them; nothing is executed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import nbformat
from nbconvert import MarkdownExporter

_EXPORTER: Any = MarkdownExporter()  # type: ignore[no-untyped-call]  # it has no types


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Renders a notebook.

    Args:
        path: of the `.ipynb` file.

    Returns:
        Markdown, and the pictures in it by their names, which lie in the same folder.

    Raises:
        ValueError: if it is no notebook.
    """
    resources: dict[str, Any] = {"output_files_dir": "", "unique_key": path.stem}
    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # likewise
        notebook.metadata.setdefault("language_info", {"name": "python"})
        markdown, resources = _EXPORTER.from_notebook_node(notebook, resources=resources)
    except Exception as error:  # whatever nbformat raises, with pages of schema
        raise ValueError(
            f"{path} is no notebook that can be shown: {type(error).__name__}; save it with Jupyter"
        ) from error
    return markdown, {PurePosixPath(name).name: data for name, data in resources["outputs"].items()}
