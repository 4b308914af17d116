"""The docs site: a page for whatever is registered, links that lead somewhere, and nothing from other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

import agents
from agents import AGENTS
from agents.runs.config_files import built_in_configs, load_config
from benchmarks import animations
from classifiers.data.synthetic_gestures import CLASS_NAMES, GestureClips, GestureSpec, draw_gesture
from gfnet_env import TASKS, __version__

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_lists_and_tables_stand_apart(path: Path) -> None:
    """GitHub shows a list right below a paragraph as one, Python-Markdown as part of the paragraph."""
    lines = _FENCE.sub("", path.read_text(encoding="utf-8")).splitlines()
    for before, line in pairwise(lines):
        if re.match(r"- |\d+\. |\|", line):
            assert re.match(r"$|- |\d+\. |\||#|  ", before), f"{before}\n{line}: put an empty line between them"


def test_every_id_has_a_small_animation() -> None:
    pictures = sorted((ROOT / "docs" / "environments").glob("*.gif"))

    assert {path.stem for path in pictures} == set(TASKS)
    assert {
        *animations.RUNS,
        *animations.RECORDED,
        animations.PHOTOS,
        animations.PICTURES,
        *animations.SUITE_IDS,
    } == set(TASKS)
    assert [path.name for path in pictures if path.stat().st_size > 400_000] == []
    for config, *changes in animations.RUNS.values():
        load_config(config, changes)


@pytest.mark.parametrize("env_id", ["GFNet-Jester-v0", "GFNet-VideoFolder-v0"])
def test_animations_of_recorded_clips_read_drawn_gestures_from_files(
    env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip of each class."""
    labels = [draw_gesture(GestureSpec(), "val", index).label for index in range(animations._NUM_CLIPS)]
    chosen = [labels.index(label) for label in range(len(CLASS_NAMES))]
    monkeypatch.setattr(animations, "_NUM_CLIPS", len(chosen))
    monkeypatch.setattr(animations, "draw_gesture", lambda spec, split, index: draw_gesture(spec, split, chosen[index]))

    read = animations.recorded_task(env_id, tmp_path).source.fetch(torch.arange(len(chosen)))

    drawn = GestureClips(GestureSpec(), "val", 30).fetch(torch.tensor(chosen))
    first, second = (batch.labels.argsort(stable=True) for batch in (read, drawn))
    assert torch.equal(read.labels[first], drawn.labels[second])
    difference = (read.images[first].int() - drawn.images[second].int()).abs().float()
    assert difference.mean(dim=(1, 2, 3, 4)).max() < 2  # JPEG of the best quality, or no loss


def test_animations_are_drawn_from_a_run(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animations, "gfnet", lambda arguments: 0)  # the run is there
    (tmp_path / "GFNet-SyntheticSigns-v0").symlink_to(tiny_run)

    frames = animations.frames("GFNet-SyntheticSigns-v0", tmp_path)
    animations.save_small(tmp_path / "a.gif", frames, widest=60)

    assert len(frames) >= 4  # of two images, a glance and a patch or more
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.size[0] == 60 and getattr(animation, "n_frames", 1) > 1
        assert len(np.unique(np.asarray(animation.convert("RGB")).reshape(-1, 3), axis=0)) <= 64


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
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert "-m mkdocs build --strict" in recipe
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.html")}
    expected = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.*[mn][db]")]
    assert [name for name in map(Path.as_posix, expected) if name not in pages] == []
    for name, recipe_ in AGENTS.items():
        assert all(f"<code>{key}</code>" in pages[f"algorithms/{name}.html"] for key in recipe_.defaults)
    for env_id in TASKS:
        assert "<code>classifier</code>" in pages[f"environments/{env_id}.html"]
    assert "step_cost" in pages["environments/index.html"] and "GlanceFocusEnv" in pages["reference/gfnet_env.html"]
    assert [name for name in built_in_configs() if f'">{name}<' not in pages["configs.html"]] == []
    assert "usage: gfnet import-checkpoint" in pages["command.html"]
    assert all(f'src="environments/{env_id}.png"' in pages["index.html"] for env_id in TASKS)
    assert f"Version {__version__}" in pages["index.html"] and "Lv, Kangchen" in pages["index.html"]
    assert all(f"#agents.{name}" in pages["reference/index.html"] for name in agents.__all__)
    for name, page in pages.items():
        fetched = _Fetched()
        fetched.feed(page)
        assert fetched.found
        assert 'class="mermaid"' not in page  # which the theme would fetch a program for
        assert [url for url in fetched.found if urlsplit(url).netloc] == [], name
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style
