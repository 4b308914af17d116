"""The docs site: a page for whatever is registered, links that lead somewhere, and nothing from other hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
import yaml

from agents.algorithms.registry import AGENTS
from gfnet_env import TASKS
from website.algorithms import algorithm_pages, leaderboard_row
from website.environments import environment_pages
from website.links import anchors, lead_to_pages, link_targets, repository_path, without_fences
from website.notebooks import notebook_page
from website.pages import file_pages
from website.readme import readme_pages

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_id_has_a_page_with_its_arguments() -> None:
    pages = environment_pages(ROOT)

    assert set(pages) == {"environments/index.md", *(f"environments/{env_id}.md" for env_id in TASKS)}
    for env_id in TASKS:
        page = pages[f"environments/{env_id}.md"]
        assert f"]({env_id}.md)" in pages["environments/index.md"]
        for argument in ("split", "classifier", "step_cost", "patch_size"):
            assert f"\n| `{argument}` |" in page, (env_id, argument)
    embedded = pages["environments/GFNet-SyntheticSigns-v0.md"]
    assert "| observation `locations` | `Box(0.0, 1.0, (3, 2), float32)` |" in embedded
    assert "| images | 192x256 pixels |" in embedded and "10: none, " in embedded
    assert "pass root= the folder of the data set" in pages["environments/GFNet-Jester-v0.md"]
    assert "`num_classes`" not in pages["environments/GFNet-ImageNet-v0.md"]  # the id's own: passing it is an error


def test_every_algorithm_has_a_page_with_its_settings() -> None:
    pages = algorithm_pages(ROOT)

    assert set(pages) == {f"algorithms/{name}.md" for name in AGENTS}
    for name, recipe in AGENTS.items():
        for key, value in recipe.defaults.items():
            assert f"| `{key}` | `{value!r}` |" in pages[f"algorithms/{name}.md"], (name, key)
    assert "| `n_epochs` | `4` | `10` |" in pages["algorithms/ppo_gru.md"]  # SB3's default beside ours


def test_a_row_of_the_leaderboard_is_found_by_its_name() -> None:
    board = "text\n\n| agent | t=2 |\n|---|---|\n| ppo | 0.9 |\n| ppo_gru | 0.8 |\n"

    assert leaderboard_row("ppo", board) == "| agent | t=2 |\n|---|---|\n| ppo | 0.9 |\n"
    assert leaderboard_row("sac", board) == ""


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_links_between_texts_lead_to_files_and_headings(path: Path) -> None:
    for target in link_targets(path.read_text(encoding="utf-8")):
        linked, anchor = repository_path(target, Path(_name(path)).parent.as_posix())
        there = ROOT / linked if linked else path
        if linked.startswith("docs/") and there.with_suffix(".ipynb").is_file():
            continue  # a notebook's page
        assert there.is_file(), target
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_lists_and_tables_stand_apart(path: Path) -> None:
    """GitHub shows a list right below a paragraph as one, Python-Markdown as part of the paragraph."""
    lines = without_fences(path.read_text(encoding="utf-8")).splitlines()
    for before, line in pairwise(lines):
        if re.match(r"- |\d+\. |\|", line):
            assert re.match(r"$|- |\d+\. |\||#|  ", before), f"{before}\n{line}: put an empty line between them"


def test_links_lead_to_pages() -> None:
    pages = {
        "README.md": "index.md",
        "README.md#results": "results.md",
        "docs/a.md": "a.md",
        "x/y.py": "files/x/y.py.md",
    }
    text = "[a](../docs/a.md#top) [r](../README.md#results) ![p](https://e.org/p.png) [y](../x/y.py) `[c](z.md)`\n"

    found = lead_to_pages(text + "```\n[a](../docs/a.md)\n```\n", "deep/page.md", "docs/page.md", pages)

    assert found == (
        "[a](../a.md#top) [r](../results.md#results) ![p](https://e.org/p.png) [y](../files/x/y.py.md) `[c](z.md)`\n"
        "```\n[a](../docs/a.md)\n```\n"
    )


def test_readme_is_divided_into_pages_without_loss() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    pages = readme_pages(readme)

    assert pages["index.md"].startswith("# GFNet-Gym\n") and pages["results.md"].startswith("# Results\n")
    assert "\n## Pretrained weights\n" in pages["networks.md"]  # a level up
    shown = sorted(line.lstrip("#") for text in pages.values() for line in text.splitlines())
    assert shown == sorted(line.lstrip("#") for line in readme.splitlines())
    with pytest.raises(KeyError, match="Another"):
        readme_pages(f"{readme}\n## Another\n")


def test_a_notebook_is_shown_with_its_stored_outputs(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell("raise RuntimeError('executed')")
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    cell.outputs = [
        nbformat.v4.new_output("stream", text="what it printed\n"),
        nbformat.v4.new_output("display_data", data={"image/png": pixel}),
    ]
    notebook.cells = [nbformat.v4.new_markdown_cell("# The title"), cell]
    nbformat.write(notebook, tmp_path / "one.ipynb")
    (tmp_path / "bad.ipynb").write_text("{}")

    markdown, pictures = notebook_page(tmp_path / "one.ipynb")

    assert markdown.startswith("# The title") and "```python\nraise RuntimeError" in markdown
    assert "what it printed" in markdown
    ((name, data),) = pictures.items()
    assert f"]({name})" in markdown and name.startswith("one") and data.startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"bad\.ipynb is no notebook that can be shown"):
        notebook_page(tmp_path / "bad.ipynb")


def test_animations_are_small() -> None:
    animations = sorted((ROOT / "docs" / "environments").glob("*.gif"))

    assert {path.stem for path in animations} <= set(TASKS)
    assert [path.name for path in animations if path.stat().st_size > 400_000] == []


class _Fetched(HTMLParser):
    """What a browser fetches for a page: scripts, styles, fonts, pictures, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and not {"canonical", "alternate", "prev", "next"} & set(values.get("rel", "").split()):
            self.found.append(values.get("href", ""))
        self.found += [values[name] for name in ("src", "srcset", "poster", "data") if tag != "a" and name in values]


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    recipe = (ROOT / "Makefile").read_text().split("\ndocs:")[1].split("\n\n")[0]
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "-m mkdocs build --strict" in recipe
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    names = {page.relative_to(tmp_path).as_posix() for page in pages}
    expected = [page for page in file_pages().values() if page.endswith(".md")]
    expected += [f"environments/{env_id}.md" for env_id in TASKS] + [f"algorithms/{name}.md" for name in AGENTS]
    assert [page for page in expected if page.removesuffix(".md") + ".html" not in names] == []
    for name in AGENTS:
        assert "rollout/ep_rew_mean" in (tmp_path / "algorithms" / f"{name}.html").read_text(encoding="utf-8")
    for page in pages:
        fetched = _Fetched()
        fetched.feed(page.read_text(encoding="utf-8"))
        assert fetched.found
        assert [url for url in fetched.found if urlsplit(url).netloc] == [], page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_every_page_of_docs_has_a_place_in_the_navigation() -> None:
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_multi_constructor("!!python", lambda *_: None)  # type: ignore[attr-defined]  # of a class made here
    loader.add_multi_constructor("tag:yaml.org,2002:python", lambda *_: None)  # type: ignore[attr-defined]  # likewise
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    placed = set(re.findall(r"[\w/]+\.md|\w+/$", str(yaml.load(text, loader)["nav"])))

    assert [path.name for path in (ROOT / "docs").glob("*.md") if path.name not in placed] == []
