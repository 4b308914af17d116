"""Links and headings of Markdown files: which there are, and where links lead on the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping

from pymdownx.slugs import slugify

_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()[^()\s]+(?=\))")
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_SLUG = slugify(case="lower")


def without_fences(markdown: str) -> str:
    """The text with fenced code blanked out, every other character at its place."""
    return _FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), markdown)


def headings(markdown: str) -> list[tuple[int, str, int]]:
    """(level, text, position) of a text's headings, in their order."""
    return [(len(match[1]), match[2], match.start()) for match in _HEADING.finditer(without_fences(markdown))]


def anchors(markdown: str) -> list[str]:
    """The anchors of a text's headings, as GitHub and the site make them."""
    return [_SLUG(re.sub(r"[`*]", "", text), "-") for _, text, _ in headings(markdown)]


def link_targets(markdown: str) -> Iterator[str]:
    """Where a text's links and pictures lead, those to the web and those in fenced code left out."""
    found = (match[0] for match in _LINK.finditer(without_fences(markdown)))
    yield from (target for target in found if not _ELSEWHERE.match(target))


def map_links(markdown: str, change: Callable[[str], str]) -> str:
    """Replaces what `link_targets` finds.

    Args:
        markdown: a text.
        change: gives a target's replacement.

    Returns:
        The text.
    """
    changed = markdown
    for match in reversed(list(_LINK.finditer(without_fences(markdown)))):
        if not _ELSEWHERE.match(match[0]):
            changed = changed[: match.start()] + change(match[0]) + changed[match.end() :]
    return changed


def repository_path(target: str, folder: str) -> tuple[str, str]:
    """Splits a target into a path in the repository and an anchor.

    Args:
        target: of a link.
        folder: that the file with the link lies in; empty for the repository's root.

    Returns:
        The path, empty if the link stays in its file, and the anchor, empty if there is none.
    """
    path, _, anchor = target.partition("#")
    return (posixpath.normpath(posixpath.join(folder, path)) if path else ""), anchor


def lead_to_pages(markdown: str, page: str, source: str, pages: Mapping[str, str]) -> str:
    """Turns links between files of the repository into links between pages.

    Args:
        markdown: of a file of the repository, or a part of it.
        page: the page that shows it.
        source: that file, such as `"docs/data.md"`.
        pages: the pages of files (`"README.md"`) and, where a file is spread over pages, of its headings
            (`"README.md#results"`); all relative to the site's root.

    Returns:
        The text; links to what has no page are as they were, so that a strict build fails on them.
    """

    def change(target: str) -> str:
        path, anchor = repository_path(target, posixpath.dirname(source))
        path = path or source
        found = pages.get(f"{path}#{anchor}", pages.get(path))
        if found is None:
            return target
        return posixpath.relpath(found, posixpath.dirname(page) or ".") + (f"#{anchor}" if anchor else "")

    return map_links(markdown, change)
