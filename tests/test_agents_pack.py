"""Packs: a run to hand on, in a folder or on a hub."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import yaml
from hub_server import Hub, hub
from PIL import Image

import agents
from agents.runs.folder import RunFolder
from agents.runs.model_card import wilson_interval
from agents.runs.pack import push_pack
from scripts.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:.*HF_TOKEN.*:UserWarning")


@pytest.fixture(scope="module")
def pack(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packs") / "signs"
    command = ["pack", str(tiny_run), "--out", str(out), "--budget", "15M", "--license", "MIT", "--quiet"]
    assert main(command) == 0
    return out


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    constants = huggingface_hub.constants
    with hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.address)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "".join((running.address, *template[1:])))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        yield running


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 96, 128, 3), dtype=np.uint8)


def test_a_pack_recognizes_as_its_run_does(tiny_run: Path, pack: Path, pictures: np.ndarray) -> None:
    of_run = agents.load_recognizer(tiny_run, budget=15e6).predict(pictures)
    recognizer = agents.load_recognizer(pack)
    of_pack = recognizer.predict(pictures)

    for ours, theirs in zip(of_pack, of_run, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert recognizer.calibration is not None and recognizer.rule.thresholds[0] < np.inf
    assert agents.load_run(str(pack), device="cpu").class_names == agents.load_run(tiny_run).class_names


def test_a_pack_needs_nothing_of_the_machine_that_made_it(picture_tree: Path, pack: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(pack, run)
    (run / "pack.json").unlink()
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings |= {"start": str(pack)}
    settings["data"] = {"kind": "image_folder", "root": str(picture_tree), "height": 96, "width": 128}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))

    assert main(["pack", str(run), "--out", str(tmp_path / "out")]) == 0

    shutil.rmtree(run)
    assert str(tmp_path) not in "".join(
        path.read_text() for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".md", ".yaml")
    )
    assert agents.load_run(tmp_path / "out").config.data.kind == "image_folder"


def test_the_card_says_what_a_reader_needs(pack: Path) -> None:
    card = (pack / "README.md").read_text()
    _, header, text = card.split("---\n", 2)

    assert yaml.safe_load(header)["license"] == "mit" and yaml.safe_load(header)["library_name"] == "gfnet-gym"
    metrics = json.loads((pack / "metrics.json").read_text())
    for step, (share, cost) in enumerate(
        zip(metrics["accuracy"]["learned"], metrics["multiply_adds"]["cumulative"], strict=True), start=1
    ):
        low, high = wilson_interval(share, metrics["images"])
        assert f"| {step} | {cost:,} | {share:.3f} ({low:.3f} to {high:.3f}) |" in text
    for heading in ("## Use", "## Data", "## Accuracy and cost", "## Stopping", "## Limits", "## License"):
        assert heading in text
    assert "command" not in metrics["made_by"]


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_a_pack_without_an_evaluation_says_so(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("evaluation", "metrics.json"))

    assert main(["pack", str(run), "--num-glimpses", "2", "--quiet"]) == 0

    card = (tmp_path / "run-pack" / "README.md").read_text()
    assert "Not measured" in card and "no budgets" in card and "None was given" in card
    assert agents.load_recognizer(tmp_path / "run-pack").predict(np.zeros((1, 96, 128, 3), np.uint8)).step == 2


def test_nothing_is_half_written(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    policy = RunFolder(run).policy
    policy.write_bytes(policy.read_bytes()[:-9])

    assert main(["pack", str(run), "--out", str(tmp_path / "out")]) == 1
    assert "policy.safetensors" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]

    (tmp_path / "out").mkdir()
    assert main(["pack", str(tiny_run), "--out", str(tmp_path / "out")]) == 1
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("stage3/classifier.safetensors", lambda data: data[:-1] + b"!", "is damaged or of another run"),
        ("evaluation/calibration.safetensors", None, "lacks evaluation/calibration.safetensors"),
        ("pack.json", lambda data: data[:-9], "pack.json is damaged"),
        ("pack.json", lambda data: data.replace(b'"format": 1', b'"format": 2'), "format 2, written by gfnet-gym"),
    ],
)  # fmt: skip
def test_damaged_packs_and_those_of_other_versions_are_refused(
    name: str, change: object, words: str, pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(pack, bad)
    if callable(change):
        (bad / name).write_bytes(change((bad / name).read_bytes()))
    else:
        (bad / name).unlink()

    assert main(["predict", str(bad), str(bad)]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert main(["push", str(bad), "me/bad"]) == 1


def test_thresholds_of_another_run_are_refused(
    tiny_run: Path, pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(pack, mixed)
    shutil.copy(RunFolder(tiny_run).record("random"), RunFolder(mixed).record("calibration"))

    assert main(["predict", str(mixed), "x.png", "--budget", "15M"]) == 1
    assert "calibration.safetensors is damaged or of another run" in capsys.readouterr().err


def test_the_card_may_be_edited(pack: Path, tmp_path: Path) -> None:
    shutil.copytree(pack, tmp_path / "edited")
    (tmp_path / "edited" / "README.md").write_text("Mine.")
    agents.load_run(tmp_path / "edited")


def test_a_pack_goes_to_a_hub_and_comes_back(server: Hub, pack: Path, pictures: np.ndarray) -> None:
    address = push_pack(pack, "me/signs")

    assert address.startswith(server.address) and sum("/commit/" in line for line in server.asked) == 1
    commit = server.branches["me/signs"]["main"]
    assert set(server.commits["me/signs"][commit]) == {
        p.relative_to(pack).as_posix() for p in pack.rglob("*") if p.is_file()
    }
    server.commits["me/signs"][commit]["model.pkl"] = b"code"
    expected = agents.load_recognizer(pack).predict(pictures)
    for source in ("hf://me/signs", "hf://me/signs@main", f"hf://me/signs@{commit}"):
        found = agents.load_recognizer(source).predict(pictures)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not any("model.pkl" in line for line in server.asked)

    server.shutdown()
    server.server_close()
    agents.load_run("hf://me/signs")  # from the cache
    agents.load_run(f"hf://me/signs@{commit}")


def test_a_revision_is_a_commit_of_its_own(server: Hub, pack: Path, tmp_path: Path) -> None:
    push_pack(pack, "me/signs")
    first = server.branches["me/signs"]["main"]
    shutil.copytree(pack, tmp_path / "new")
    (tmp_path / "new" / "README.md").write_text("New.")
    push_pack(tmp_path / "new", "me/signs")

    def card(source: str) -> str:
        from agents.runs.pack import find_run

        return (find_run(source)[0] / "README.md").read_text()

    assert card("hf://me/signs") == "New." and card(f"hf://me/signs@{first}").startswith("---")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("hf://me/signs@never", "no revision 'never'"),
        ("hf://me/nothing", "me/nothing is not on the Hub"),
        ("hf://me", "names no pack"),
        ("hf://me/other", "holds no pack.json"),
    ],
)
def test_names_that_lead_nowhere_are_one_sentence(
    source: str, words: str, server: Hub, pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push_pack(pack, "me/signs")
    server.commits["me/other"], server.branches["me/other"] = {}, {}
    server.commit("me/other", "main", {"config.json": b"{}"})

    assert main(["predict", source, "x.png"]) == 1
    *_, error = capsys.readouterr().err.splitlines()  # below progress bars
    assert error.startswith("gfnet: ") and words in error


def test_no_network_and_no_hub_package_are_one_sentence(
    server: Hub, pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert main(["predict", "hf://me/signs", "x.png"]) == 1
        assert "the Hub can't be reached" in capsys.readouterr().err
        assert main(["push", str(pack), "me/signs"]) == 1
        assert "the Hub can't be reached" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["predict", "hf://me/signs", "x.png"]) == 1
    assert "pip install 'gfnet-gym[hub]'" in capsys.readouterr().err


def test_push_asks_for_a_pack_and_a_name(tiny_run: Path, pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(tiny_run), "me/signs"]) == 1
    assert "holds no pack.json" in capsys.readouterr().err
    assert main(["push", str(pack), "signs"]) == 1
    assert "pass OWNER/NAME" in capsys.readouterr().err


@pytest.mark.slow
def test_the_commands_work_as_programs_with_another_endpoint(pack: Path, tmp_path: Path) -> None:
    Image.new("RGB", (128, 96)).save(tmp_path / "picture.png")
    with hub() as server:
        environment = {**os.environ, "HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_x"}

        def gfnet(*words: str, **changes: str) -> str:
            command = [sys.executable, "-m", "scripts.cli", *words]
            done = subprocess.run(command, env={**environment, **changes}, capture_output=True, text=True, check=True)
            return done.stdout

        assert "hf://me/signs" in gfnet("push", str(pack), "me/signs")
        rows = gfnet("predict", "hf://me/signs", str(tmp_path / "picture.png"), "--jsonl")
    assert gfnet("predict", "hf://me/signs", str(tmp_path / "picture.png"), "--jsonl", HF_HUB_OFFLINE="1") == rows
    assert json.loads(rows)["file"].endswith("picture.png")
