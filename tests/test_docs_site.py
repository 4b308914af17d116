"""The docs site: a page for whatever is registered, links that lead somewhere, and nothing from other hosts."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import numpy as np
import pytest
import torch
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import PluginCollection
from mkdocs.structure.files import File, Files
from PIL import Image

from agents.algorithms.registry import AGENTS
from agents.runs.config_files import load_config, shipped_configs
from agents.runs.images import open_images
from classifiers.data.synthetic_gestures.clips import GestureSpec
from classifiers.data.synthetic_gestures.source import GestureClips
from gfnet_env import TASKS
from scripts.cli import build_parser
from website.algorithms import algorithm_pages, leaderboard_row
from website.animations import PHOTOS, PICTURES, RECORDED, RUNS, run_of, save_small
from website.commands import configs_page, subcommands
from website.environments import environment_pages
from website.hooks import on_files
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


def test_an_algorithms_page_says_how_to_run_it() -> None:
    page = algorithm_pages(ROOT)["algorithms/a2c.md"]

    (commands,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)

    for line in commands.splitlines():
        assert build_parser().parse_args(shlex.split(line)[1:]).out.parts[0] == "runs"
    assert load_config("demo", ["stage2.agent=a2c"]).stage2.agent == "a2c"
    names: dict[str, Any] = {}
    exec(compile(snippet.replace(".learn(768)", ".learn(1)"), "a2c.md", "exec"), names)
    assert names["agent"].num_timesteps >= 1


def test_every_command_and_config_is_shown() -> None:
    commands, configs = subcommands(), configs_page()

    for name in ("train", "render", "play", "import-checkpoint"):
        assert f"\n## gfnet {name}\n" in f"\n{commands}" and f"usage: gfnet {name} " in commands
    for name in (*shipped_configs(), "_imagenet", "ablations/no_glance"):
        assert f"\n## {name}\n" in configs
    assert "start: shipped\n" in configs


def test_a_row_of_the_leaderboard_is_found_by_its_name() -> None:
    board = "text\n\n| agent | t=2 |\n|---|---|\n| ppo | 0.9 |\n| ppo_gru | 0.8 |\n\n"
    board += "| agent | t=3 |\n|---|---|\n| ppo_gru | 1 |\n"

    assert leaderboard_row("ppo", board) == "| agent | t=2 |\n|---|---|\n| ppo | 0.9 |\n"
    assert leaderboard_row("ppo_gru", board).endswith(
        "| ppo_gru | 0.8 |\n\n| agent | t=3 |\n|---|---|\n| ppo_gru | 1 |\n"
    )
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

    text += "[../docs/a.md](../docs/a.md#top)\n```\n[../docs/a.md](../docs/a.md)\n```\n"

    found = lead_to_pages(text, "deep/page.md", "docs/page.md", pages, {"docs/a.md": "About a"})

    assert found == (
        "[a](../a.md#top) [r](../results.md#results) ![p](https://e.org/p.png) [y](../files/x/y.py.md) `[c](z.md)`\n"
        "[About a](../a.md#top)\n```\n[../docs/a.md](../docs/a.md)\n```\n"
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


def test_notebooks_below_docs_become_pages(tmp_path: Path) -> None:
    (tmp_path / "tutorials").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# The title")])
    nbformat.write(notebook, tmp_path / "tutorials" / "one.ipynb")
    files = Files([File("tutorials/one.ipynb", str(tmp_path), str(tmp_path / "out"), use_directory_urls=False)])

    config = MkDocsConfig()
    config.plugins = PluginCollection()
    config.plugins._current_plugin = "hooks"  # as while MkDocs calls it

    (page,) = on_files(files, config)

    assert page.src_uri == "tutorials/one.md" and page.content_string.startswith("# The title")


def test_animations_are_small() -> None:
    animations = sorted((ROOT / "docs" / "environments").glob("*.gif"))

    assert {path.stem for path in animations} == {*RUNS, *RECORDED, PHOTOS} == set(TASKS)
    assert [path.name for path in animations if path.stat().st_size > 400_000] == []


@pytest.mark.parametrize("env_id", sorted(set(RUNS) - {PICTURES}))
def test_runs_of_animations_are_configs_of_their_ids(env_id: str, tmp_path: Path) -> None:
    config, *changes = run_of(env_id, tmp_path)

    data = load_config(config, changes).data

    task = TASKS[env_id](**{"num_clips" if "Gestures" in env_id else "num_scenes": 2})
    assert data.image_size == task.source.image_size and data.counts["test"] is not None


@pytest.mark.parametrize("env_id", RECORDED)
def test_animations_of_recorded_clips_read_drawn_gestures_from_files(
    env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 30  # each class is among them
    monkeypatch.setattr("website.animations._CLIPS", {"train": count, "val": count})

    config, *changes = run_of(env_id, tmp_path)

    opened = open_images(load_config(config, changes), "test")
    read, drawn = (data.fetch(torch.arange(count)) for data in (opened, GestureClips(GestureSpec(), "val", count)))
    assert opened.num_frames == 8
    first, second = (data.labels.argsort(stable=True) for data in (read, drawn))
    assert torch.equal(read.labels[first], drawn.labels[second])
    difference = (read.images[first].int() - drawn.images[second].int()).abs().float()
    assert difference.mean(dim=(1, 2, 3, 4)).max() < 2  # JPEG of the best quality, or no loss


def test_the_animation_of_photos_needs_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pass --root TREE"):
        run_of(PICTURES, tmp_path)
    assert "data.root=TREE" in run_of(PICTURES, tmp_path, Path("TREE"))


def test_animations_share_one_palette(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)

    save_small(tmp_path / "a.gif", [Image.fromarray(frame) for frame in noise])

    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.size == (60, 40) and getattr(animation, "n_frames", 1) == 2
        assert len(animation.convert("RGB").getcolors() or []) <= 64


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
        assert 'class="mermaid"' not in page.read_text(encoding="utf-8")  # which the theme would fetch a program for
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
