"""What MkDocs calls: generated pages join the files, notebooks become pages, the navigation's folders are filled in."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website.links import lead_to_pages
from website.notebooks import notebook_page
from website.pages import file_pages, generated_pages

_site: dict[str, dict[str, str]] = {"pages": {}, "generated": {}}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Generates the pages, and fills in the navigation."""
    _site["pages"] = file_pages()
    _site["generated"] = generated_pages(_site["pages"])
    config.nav = [entry for entry in (_filled(entry) for entry in config.nav or []) if entry is not None]
    return config


def _filled(entry: Any) -> Any:
    """A navigation's entry; one that names a folder (`NAME/`) becomes the list of its pages, or None without any."""
    if isinstance(entry, dict):
        filled = {title: _filled(inner) for title, inner in entry.items()}
        return {title: inner for title, inner in filled.items() if inner} or None
    if isinstance(entry, list):
        return [inner for inner in (_filled(inner) for inner in entry) if inner]
    return _pages_below(entry) if entry.endswith("/") else entry


def _pages_below(folder: str) -> list[str]:
    """A folder's pages, `index.md` first, then generated ones in their order and those of docs/ by name."""
    below = [page for page in (*_site["generated"], *_site["pages"].values()) if page.startswith(folder)]
    pages = list(dict.fromkeys(page for page in below if page.endswith(".md")))
    return sorted(pages, key=lambda page: PurePosixPath(page).name != "index.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds generated pages, and turns notebooks into pages."""
    for page, markdown in _site["generated"].items():
        files.append(File.generated(config, page, content=markdown))
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            markdown, pictures = notebook_page(Path(str(file.abs_src_path)))
            notebook = PurePosixPath(file.src_uri)
            files.append(File.generated(config, str(notebook.with_suffix(".md")), content=markdown))
            for name, data in pictures.items():
                files.append(File.generated(config, str(notebook.parent / name), content=data))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads the links of docs/ to pages; those of generated pages do so already."""
    uri = page.file.src_uri
    return markdown if uri in _site["generated"] else lead_to_pages(markdown, uri, f"docs/{uri}", _site["pages"])
