"""README's sections as pages, so that nothing is written twice."""

from __future__ import annotations

from website.links import anchors, headings

PAGES = {
    "": "index.md",
    "Two commands": "index.md",
    "The environment in ten lines": "index.md",
    "Swap the algorithm": "algorithms/index.md",
    "What else can be installed": "install.md",
    "The command": "command.md",
    "Stopping early": "early_exit.md",
    "The paper's networks": "networks.md",
    "Results": "results.md",
    "Where things are": "folders.md",
}
"""The page of each section; the section without a name is what stands above the first."""


def sections(readme: str) -> dict[str, str]:
    """README's second-level sections by their names, each with its heading; `""` is what stands above the first."""
    starts = [(text, position) for level, text, position in headings(readme) if level == 2]
    ends = [position for _, position in starts[1:]] + [len(readme)]
    found = {text: readme[start:end] for (text, start), end in zip(starts, ends, strict=True)}
    return {"": readme[: starts[0][1]], **found}


def pages_of_headings(readme: str) -> dict[str, str]:
    """`"README.md#ANCHOR"` of every heading, and the page that shows it."""
    return {f"README.md#{anchor}": PAGES[name] for name, text in sections(readme).items() for anchor in anchors(text)}


def readme_pages(readme: str) -> dict[str, str]:
    """The pages of README's sections.

    Args:
        readme: its text.

    Returns:
        Markdown by page, with README's own links.

    Raises:
        KeyError: if a section has no page in `PAGES`.
    """
    gathered: dict[str, list[str]] = {}
    for name, text in sections(readme).items():
        gathered.setdefault(PAGES[name], []).append(text)
    return {
        page: texts[0] + "".join(texts[1:]) if page == "index.md" else _raised("".join(texts))
        for page, texts in gathered.items()
    }


def _raised(section: str) -> str:
    """A section as a page of its own: its headings one level up."""
    for level, _, position in reversed(headings(section)):
        if level > 1:
            section = section[:position] + section[position + 1 :]
    return section
