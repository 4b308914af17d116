"""All pages that are generated, and where every file of the repository is shown."""

from __future__ import annotations

from pathlib import Path

from website.algorithms import algorithm_pages, logs, overview
from website.environments import environment_pages
from website.links import lead_to_pages, link_targets, repository_path
from website.readme import pages_of_headings, readme_pages
from website.reference import reference_pages

ROOT = Path(__file__).parent.parent

TEXTS = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files outside of docs/ that are pages as they are."""

_LANGUAGES = {".py": "python", ".cff": "yaml", ".toml": "toml", ".yaml": "yaml"}


def file_pages() -> dict[str, str]:
    """The page or asset of each file that is shown or linked, and of README's headings; see `lead_to_pages`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {"README.md": "index.md", **pages_of_headings(readme), **TEXTS}
    documents = sorted((ROOT / "docs").rglob("*"))
    for path in documents:
        if path.is_file():
            page = path.relative_to(ROOT / "docs")
            pages[path.relative_to(ROOT).as_posix()] = (
                page.with_suffix(".md") if page.suffix == ".ipynb" else page
            ).as_posix()
    for source in ("README.md", *TEXTS, *(name for name in pages if name.startswith("docs/") and name.endswith(".md"))):
        for target in link_targets((ROOT / source).read_text(encoding="utf-8")):
            linked, _ = repository_path(target, Path(source).parent.as_posix())
            if linked and linked not in pages and (ROOT / linked).is_file():
                pages[linked] = f"files/{linked}.md"
    return pages


def generated_pages(pages: dict[str, str]) -> dict[str, str]:
    """Every page that is not a file in docs/.

    Args:
        pages: `file_pages()`.

    Returns:
        Markdown by page; links are those of the site.
    """
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", *TEXTS)}
    found = {
        page: lead_to_pages(text, page, "README.md", pages) for page, text in readme_pages(texts["README.md"]).items()
    }
    found |= {page: lead_to_pages(texts[name], page, name, pages) for name, page in TEXTS.items()}
    found["algorithms/index.md"] += "\n" + overview()
    found |= {page: text + logs(Path(page).stem) for page, text in algorithm_pages(ROOT).items()}
    found |= environment_pages(ROOT) | reference_pages()
    found |= {page: _shown(path) for path, page in pages.items() if page.startswith("files/")}
    return found


def _shown(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"# {path}\n\n````{_LANGUAGES.get(Path(path).suffix, 'text')}\n{text.rstrip()}\n````\n"
