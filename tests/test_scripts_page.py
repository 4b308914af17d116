"""The report's page and the game, as a person meets them."""

from __future__ import annotations

import csv
import html
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
import numpy as np
import pytest
import torch
import yaml
from browser import needs_chromium, visit, with_actions
from conftest import with_rules

from agents.evaluation.budgets import budget_curve
from agents.evaluation.record import load_record
from agents.evaluation.stopping import CRITERIA
from agents.policies.baselines import CENTER_CORNERS, CenterCornerPolicy
from agents.runs.config_files import dump_applied, load_run_config, parse_config
from agents.runs.folder import RunFolder, read_metrics
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from scripts.cli import main
from scripts.episodes import telling_images
from scripts.page.gallery import class_bars
from scripts.page.game import Game
from scripts.page.server import GameServer
from scripts.page.templates import fill_page
from scripts.plots import curve_name
from scripts.report import budget_front, budget_table

EVIL = "</script><img src=https://example.invalid/x onerror=alert(1)>"
"""The name of a class, as somebody's folder may be called."""


def _data(page: str) -> Any:
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def _loads_nothing(page: str) -> bool:
    """Whether no attribute or style of the markup names a place outside the page; scripts are judged in a browser."""
    page = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    return not re.search(r"(?:src|href|srcset|action)\s*=\s*(?![\"']?(?:data:|#))|url\((?!#)|@import", page)


def test_the_report_holds_episodes_and_the_front_that_python_computes(tiny_run: Path) -> None:
    page = (tiny_run / "report.html").read_text()
    data = _data(page)
    files = RunFolder(tiny_run)

    assert _loads_nothing(page)
    curve = budget_curve(load_record(files.record("calibration")), load_record(files.record("learned")))
    kept = [curve.budgets.index(budget) for budget in data["front"]["budgets"]]
    for name in ("costs", "accuracies", "expected_lengths"):
        assert data["front"][name] == pytest.approx([getattr(curve, name)[index] for index in kept])
    assert np.array(data["front"]["exits"]) == pytest.approx(np.array(curve.exits)[kept])
    left_out = set(range(len(curve.budgets))) - set(kept)
    assert kept[0] == 0 and all(curve.exits[index] == curve.exits[index - 1] for index in left_out)
    assert all(curve.exits[index] != curve.exits[index - 1] for index in kept[1:])  # every step of the slider shows
    record = load_record(files.record("learned"))
    assert 6 <= len(data["episodes"]) <= 12
    for episode in data["episodes"]:
        index, looks = episode["index"], episode["looks"]
        taken = len(looks)  # the demo's episodes end once the classifier is confident
        assert 2 <= taken <= record.num_steps
        recorded = record.confidence[index, :taken].tolist()
        assert [look["confidence"] for look in looks] == pytest.approx(recorded, abs=1e-4)
        assert [look["right"] for look in looks] == (record.prediction[index] == record.label[index])[:taken].tolist()
        for look in looks:
            assert look["image"].startswith("data:image/webp;base64,")
            assert look["bars"][0]["probability"] == pytest.approx(look["confidence"], abs=1e-4)
            (true,) = [bar["probability"] for bar in look["bars"] if bar["is_true"]]
            assert true == pytest.approx(look["truth_probability"], abs=1e-4)


def test_captions_stand_for_the_pictures(tiny_run: Path) -> None:
    page = (tiny_run / "report.html").read_text()

    figures = re.findall(r'<figure class="\w+"><div role="img" aria-label="([^"]*)"><svg ', page)
    assert len(figures) >= 6 and all(len(caption) > 20 for caption in figures)
    assert "at t=4: random" in page and page.count("<figcaption>") == len(figures)
    assert '<meta name="viewport"' in page and "prefers-color-scheme:dark" in page


def test_a_run_shows_its_mistakes_by_class(tiny_run: Path) -> None:
    page, found = (tiny_run / "report.html").read_text(), json.loads((tiny_run / "metrics.json").read_text())["classes"]

    with open(tiny_run / "confusion.csv", newline="", encoding="utf-8") as stream:
        head, *rows = csv.reader(stream)
    counts = np.array([row[1:] for row in rows], int)
    assert head == ["label", *found["names"]] and [row[0] for row in rows] == found["names"]
    assert counts.sum(axis=1).tolist() == found["images"] and counts.sum() == 12
    shares = [None if not row.sum() else row[label] / row.sum() for label, row in enumerate(counts)]
    assert shares == found["accuracy"]
    assert "Confusion matrix" in page and "Accuracy by class after all looks" in page
    lowest = min(share for share in shares if share is not None)
    assert re.search(rf"often taken for</th></tr>\s*<tr><td>\w+</td><td>\d+</td><td>{lowest:.3f}</td>", page)


def test_plots_have_the_colors_of_the_page(tiny_run: Path) -> None:
    page = (tiny_run / "report.html").read_text()

    plots = re.findall(r"<svg fill=.*?</svg>", page, re.DOTALL)
    assert len(plots) >= 6
    for plot in plots:
        root = ElementTree.fromstring(plot)
        first = root.find("{*}g/{*}g/{*}path[@style]")  # the background of the figure
        assert root.get("fill") == "currentColor" and first is not None and "fill: none" in first.get("style", "")
        assert "stroke: currentColor" in plot or "<image" in plot
        assert not re.search(r"#000000|#ffffff|<style|<metadata|<!--", plot)
        links = {link.removeprefix("#") for link in re.findall(r'href="(#[^"]+)"', plot)}
        assert links | set(re.findall(r"url\(#(\w+)\)", plot)) <= set(re.findall(r' id="([^"]+)"', plot))


@pytest.mark.parametrize(
    ("accuracies", "learned", "start"),
    [([0.5, 0.8, 0.9, 0.9, 0.9], [0.5, 0.88], 2), ([0.5, 0.8, 0.7, 0.7, 0.7], [0.5, 0.9], 1)],
)
def test_the_slider_has_no_idle_steps_and_begins_where_it_is_accurate(
    accuracies: list[float], learned: list[float], start: int
) -> None:
    costs = [1.0, 2.0, 3.0, 3.0, 3.0]
    curve = {"budgets": [1.0, 2.0, 3.0, 4.0, 5.0], "costs": costs, "accuracies": accuracies}
    curve |= {"expected_lengths": costs, "exits": [[cost] for cost in costs]}
    metrics = {"adaptive": {"curves": {"confidence": curve}}, "full_resolution_accuracy": None}

    front = budget_front({**metrics, "accuracy": {"learned": learned}})

    assert front is not None and front["start"] == start
    assert front["budgets"] == front["costs"] == [1.0, 2.0, 3.0]


def test_the_report_opens_with_the_image_that_a_patch_helps_most(tiny_run: Path) -> None:
    record = load_record(RunFolder(tiny_run).record("learned"))
    is_right = record.prediction == record.label[:, None]
    helped = np.flatnonzero(~is_right[:, 0] & is_right[:, 1])
    gain = (record.label_probability[:, 1] - record.label_probability[:, 0])[helped]

    first = _data((tiny_run / "report.html").read_text())["episodes"][0]

    assert telling_images(record, 2) == helped[np.argsort(-gain)][:2].tolist()
    if len(helped):
        assert not first["looks"][0]["right"] and first["looks"][-1]["right"]


def test_a_rule_has_one_name(tiny_run: Path) -> None:
    page = (tiny_run / "report.html").read_text()
    metrics = read_metrics(tiny_run)
    calibration, record = (load_record(RunFolder(tiny_run).record(name)) for name in ("calibration", "learned"))

    names = [f"geometric, {criterion}" for criterion in CRITERIA] + ["coordinate ascent, confidence"]
    assert [curve_name(name, metrics) for name in metrics["adaptive"]["curves"]] == names
    assert all(f"<td>{name}</td>" in page for name in names) and "most accurate thresholds" not in page
    table = budget_table(calibration, record, 12e6)
    cells = [list(column.cells) for column in table.columns[:2]]
    assert [f"{method}, {criterion}" for method, criterion in zip(*cells, strict=True)] == names


def test_the_config_of_a_report_lists_what_the_run_depends_on(tiny_run: Path) -> None:
    (text,) = re.findall(r"<pre>(.*?)</pre>", (tiny_run / "report.html").read_text(), re.DOTALL)
    shown, config = yaml.safe_load(html.unescape(text)), load_run_config(tiny_run)

    assert shown["stage3"] == {"epochs": 0} and shown["start"] == "pretrained"
    assert not {"initialization", "stage1", "objects"} & shown.keys()
    assert shown["stage2"]["env_steps"] == config.stage2.env_steps and "patch_sizes" not in shown["classifier"]
    fixed = config.replace(stage2=config.stage2.replace(agent="random"))
    assert yaml.safe_load(dump_applied(fixed))["stage2"].keys() == {"agent", "episode"}
    assert parse_config({**config.model_dump(), **shown}) == config


def _game_page(name: str) -> str:
    """A page of the game before the first look; its opponent and a class have a name."""
    bars = [{"name": name, "probability": 1.0, "is_true": True}]
    look = {"corner": None, "side": 8, "picture": "data:,", "prediction": name, "confidence": 1.0, "bars": bars}
    score = {"images": 0, "person": 0, "policy": 0}
    state = {"size": [8, 8], "patch_size": 4, "num_looks": 3, "looks": [look], "score": score, "opponent": name}
    return fill_page("play", name, {**state, "result": None}, asks_server=True)


def test_names_are_text_wherever_they_stand() -> None:
    page = _game_page(EVIL)

    assert EVIL not in page and page.count("</script>") == 2
    assert _data(page)["opponent"] == EVIL
    assert _data(_game_page("{{ data }}<!--&\u2028"))["opponent"] == "{{ data }}<!--&\u2028"
    with pytest.raises(jinja2.UndefinedError, match="images"):
        fill_page("report", "a", {})


def test_bars_are_the_likeliest_classes_and_the_true_one() -> None:
    chances, names = np.array([0.02, 0.3, 0.1, 0.25, 0.2, 0.08, 0.05]), tuple("abcdefg")

    assert [bar["name"] for bar in class_bars(chances, names, 3)] == ["b", "d", "e", "c", "f"]
    bars = class_bars(chances, names, 0)
    assert [bar["name"] for bar in bars] == ["b", "d", "e", "c", "a"] and [bar["is_true"] for bar in bars] == [
        False
    ] * 4 + [True]


@needs_chromium
@pytest.mark.slow
def test_the_slider_and_the_gallery_in_a_browser(tiny_run: Path, tmp_path: Path) -> None:
    page = (tiny_run / "report.html").read_text()
    front, taken = _data(page)["front"], len(_data(page)["episodes"][0]["looks"])
    actions = """
      const seen = { texts: [], accuracies: [], spent: [], exits: [] };
      for (let index = 0; index <= Number(get("budget").max); index++) {
        get("budget").value = index;
        get("budget").dispatchEvent(new Event("input"));
        seen.accuracies.push(Number(get("accuracy").value));
        seen.spent.push(Number(get("spent").value));
        seen.texts.push(get("accuracy").textContent);
        seen.exits.push([...document.querySelectorAll("#exits .number")].map((each) => each.textContent));
      }
      seen.first = get("picture").src;
      press("ArrowRight");
      seen.look = get("look-number").textContent;
      seen.second = get("picture").src;
      press("n");
      seen.episode = get("episode-number").textContent;
      get("previous-episode").click();
      seen.back = get("picture").src;
      seen.paper = getComputedStyle(document.body).backgroundColor;
      get("theme").click();
      seen.other = getComputedStyle(document.body).backgroundColor;
      seen.wide = document.documentElement.scrollWidth <= innerWidth;
      return seen;
    """
    path = tmp_path / "page.html"
    path.write_text(with_actions(page, actions))

    found = visit(path.as_uri(), tmp_path)

    assert found["errors"] == [] and found["requests"] == []
    seen = found["results"]
    assert seen["accuracies"] == front["accuracies"] and seen["spent"] == front["costs"]
    assert seen["texts"] == [f"{100 * accuracy:.1f} %" for accuracy in front["accuracies"]]
    assert seen["exits"][-1] == [f"{100 * share:.1f} %" for share in front["exits"][-1]]
    assert seen["look"] == f"look 2 of {taken}" and seen["first"] != seen["second"] and seen["back"] == seen["first"]
    assert seen["episode"].startswith("episode 2 of") and seen["paper"] != seen["other"] and seen["wide"]


@needs_chromium
@pytest.mark.slow
def test_evil_names_do_nothing_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(with_actions(_game_page(EVIL), 'return [get("status").textContent, document.images.length];'))

    found = visit(path.as_uri(), tmp_path)

    assert found["errors"] == [] and found["requests"] == []
    assert found["results"] == [f"2 looks left. So far the classifier says {EVIL}, 100.0 % sure.", 1]


@pytest.fixture
def game(scenes: ArrayImages, classifier: FrozenClassifier) -> Iterator[Game]:
    task, _ = with_rules(scenes, classifier, {})
    played = Game(task, CenterCornerPolicy(), "the center-corner policy", seed=3)
    yield played
    played.close()


def test_a_game_shows_no_more_than_the_classifier_saw(game: Game) -> None:
    before = game.state()
    assert before["result"] is None and len(before["looks"]) == 1 and before["looks"][0]["corner"] is None
    assert not any(bar["is_true"] for bar in before["looks"][0]["bars"])

    for place in CENTER_CORNERS[:3].tolist():
        game.look(*place)

    after = game.state()
    assert [look["corner"] for look in after["looks"][1:]] == [[24, 40], [0, 0], [0, 80]]
    assert after["result"]["policy"] == after["looks"]  # the person looked where this policy looks
    assert (
        after["score"]["person"] == after["score"]["policy"] and after["score"]["images"] == game.finished_images == 1
    )
    with pytest.raises(ValueError, match="no look"):
        game.look(0.5, 0.5)
    game.next_image()
    assert game.state()["result"] is None and game.state()["score"]["images"] == 1
    with pytest.raises(ValueError, match="place"):
        game.look(0.5, 1.5)


def _post(url: str, move: str, body: str, **headers: str) -> Any:
    request = urllib.request.Request(url + move, body.encode(), {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_the_server_plays_and_refuses_what_is_no_move(game: Game) -> None:
    with GameServer(game, images=1) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        with urllib.request.urlopen(server.url, timeout=60) as answer:
            assert _data(answer.read().decode())["looks"] == game.state()["looks"]
        wrong = (
            ("look", '{"row": "a"}', {}, 400, "not a place"),
            ("look", '{"row": NaN, "col": 0}', {}, 400, "outside the image"),
            ("look", "[", {}, 400, "error"),
            ("jump", "{}", {}, 400, "/jump"),
            ("next", "{}", {"Content-Type": "text/plain"}, 400, "JSON"),
            ("next", "{}", {"Host": "example.invalid"}, 403, "127.0.0.1"),
        )
        for move, body, headers, status, message in wrong:
            with pytest.raises(urllib.error.HTTPError) as refused:
                _post(server.url, move, body, **headers)
            assert refused.value.code == status and message in refused.value.read().decode()
            refused.value.close()
        _post(server.url, "next", "{}")
        for _ in range(3):
            state = _post(server.url, "look", '{"row": 0.5, "col": 0.25}')
        for port in (server.server_address[1], 99999):
            with pytest.raises(ValueError, match=f"port {port}"):
                GameServer(game, port)
        serving.join(timeout=60)
    assert state["score"]["images"] == 1 and state["result"] is not None and not serving.is_alive()


@needs_chromium
@pytest.mark.slow
def test_a_person_plays_with_mouse_and_keys(game: Game, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = """
      const boxes = () => document.querySelectorAll("#scene .box:not(#cursor)").length;
      const frame = get("scene").getBoundingClientRect();
      const corner = { clientX: frame.right - 1, clientY: frame.top + 1, bubbles: true };
      get("scene").dispatchEvent(new MouseEvent("click", corner));
      await until(() => boxes() === 1);
      for (let count = 0; count < 20; count++) { press("ArrowLeft"); press("ArrowDown"); }
      press("Enter");
      await until(() => boxes() === 2);
      get("look").click();
      await until(() => get("look").disabled);
      const shown = [get("status").textContent, get("person").value, get("policy").value, get("images").value, boxes()];
      press("n");
      await until(() => !get("look").disabled);
      return [...shown, boxes()];
    """
    with GameServer(game) as server:
        page = with_actions(server.page(), actions)
        monkeypatch.setattr(server, "page", lambda: page)
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            found = visit(server.url, tmp_path)
        finally:
            server.shutdown()
            serving.join(timeout=60)
        state = game.state()

    assert found["errors"] == [] and all(name.startswith(server.url) for name in found["requests"])
    status, person, policy, images, boxes, then = found["results"]
    assert status.startswith("It is ") and "the center-corner policy's (dashed)" in status
    assert [int(person), int(policy), int(images)] == [state["score"][key] for key in ("person", "policy", "images")]
    assert (int(images), boxes, then) == (1, 6, 0)


def test_play_is_a_command(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = []

    def play_one(server: GameServer, poll_interval: float) -> None:
        for _ in range(3):
            states.append(server.move("/look", {"row": 0.0, "col": 1.0}))

    monkeypatch.setattr(GameServer, "serve_forever", play_one)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["play", str(tiny_run)]) == 0
    assert main(["play", "GFNet-SyntheticSigns-v0", "--no-browser", "--set", "num_scenes=4"]) == 0

    assert len(opened) == 1 and opened[0].startswith("http://127.0.0.1:")
    printed = capsys.readouterr().out
    assert (
        "the run's policy" in printed and "the center-corner policy" in printed and printed.count("1 images: you") == 2
    )
    assert states[2]["result"] is not None and torch.tensor(states[2]["looks"][1]["corner"]).tolist() == [0, 80]
    for arguments, message in (
        (["play", str(tmp_path / "none")], "is neither a run's folder nor an environment; pass one of GFNet"),
        (["play", str(tiny_run), "--set", "a=1"], "--set with a run; leave it out"),
        (["play", str(tiny_run), "--images", "0"], "--images 0; pass 1 or more"),
        (["play", "GFNet-SyntheticSigns-v0", "--set", "color=1"], "color"),
    ):
        assert main(arguments) == 1
        assert message in capsys.readouterr().err
