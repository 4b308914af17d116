"""`gfnet predict`: what it prints, skips and refuses; names are shown as they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from conftest import SMALL_SCENES
from PIL import Image

from agents.policies.weights import save_policy
from agents.runs.config_files import dump_config, load_config
from agents.runs.folder import RunFolder
from agents.runs.run import blank_agent
from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.data.source import ArrayImages
from classifiers.files import write_text
from classifiers.inference.frozen import frozen
from gfnet_env.tasks import PRETRAINED_RUN, run_weights
from scripts.cli import main
from scripts.console import PlainConsole, printable
from scripts.plots import save_plots
from scripts.progress import TerminalReporter

CLASSES = ("[bold]", "[/x]", ":smile:", "a\x1b[31mb", *(f"[{index}]" for index in range(6)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pretrained classifier with hostile names of classes, and a policy that was never trained."""
    files = RunFolder(tmp_path_factory.mktemp("runs") / "[run]")
    config = load_config(
        "demo", [f"data.scenes.height={SMALL_SCENES.height}", f"data.scenes.width={SMALL_SCENES.width}"]
    )
    classifier, names = load_classifier(run_weights(PRETRAINED_RUN))
    assert len(names) == len(CLASSES)
    save_classifier(files.classifier(3), classifier, CLASSES)
    agent = blank_agent(config, frozen(classifier), CLASSES)
    torch.manual_seed(0)
    save_policy(files.policy, agent)  # type: ignore[arg-type]  # an algorithm that learns
    write_text(files.config, dump_config(config))
    return files.path


@pytest.fixture
def pictures(tmp_path: Path, scenes: ArrayImages) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(scenes.images[index].permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    return folder


def test_json_has_a_row_for_each_file_and_pictures_are_drawn(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = pictures / ("x" * 250 + ".png")
    long.write_bytes((pictures / "0.png").read_bytes())
    thresholds = "--thresholds=0.9,0.5,0"

    assert main(["predict", str(run), str(pictures), thresholds, "--json", "--pictures", str(tmp_path / "out")]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1.png", "2.png", long.name]
    for row in rows:
        assert len(row["locations"]) == row["steps"] - 1
        assert 0 < row["confidence"] <= 1 and row["class"] == CLASSES[row["label"]]
    drawn = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert drawn == ["0001_0.png", "0002_1.png", "0003_2.png", f"0004_{'x' * 60}.png"]
    assert main(["predict", str(run), str(pictures / "0.png")]) == 0
    assert "4.00 steps" in " ".join(capsys.readouterr().out.split())


def test_names_are_shown_as_they_are(run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (pictures / "0.png").read_bytes()
    folder = pictures / "[bold]"
    (folder / "m[").mkdir(parents=True)
    names = ["[final] cat.jpg", ":cat:.jpg", "[link=file_x]y.jpg", "a\x1b[31mred.jpg"]
    for name in names:
        (folder / name).write_bytes(content)
    (folder / "m[" / "x].jpg").write_bytes(content)
    undecodable = os.fsdecode(os.fsencode(folder) + b"/\xff.jpg")
    Path(undecodable).write_bytes(content)

    assert main(["predict", str(run), str(folder)]) == 0
    shown = capsys.readouterr().out

    for name in ("[final] cat.jpg", "m[/x].jpg", ":cat:.jpg", "[link=file_x]y.jpg", r"a\x1b[31mred.jpg", r"\udcff.jpg"):
        assert f"[bold]/{name}" in shown
    assert "\x1b" not in shown
    assert any(printable(name) in shown for name in CLASSES)


def test_progress_notes_and_plots_show_names_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalReporter(PlainConsole(), quiet=False) as reporter:
        advance = reporter.track("[bold] m[/x] :cat:")
        for done in (1, 2, 3):
            advance(done, 3, {"loss": 0.5})
        reporter.note("[run] m[/x]\x1b[2J" + 300 * "x")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "[bold] m[/x] :cat:: 1 of 3, 0 s, loss 0.500" and shown[1].startswith(
        "[bold] m[/x] :cat:: 3 of 3"
    )
    assert shown[2].startswith("[run] m[/x]\\x1b[2J") and len(shown) == 3  # nothing is wrapped

    metrics = {
        "accuracy": {"learned": [0.5, 0.6]},
        "full_resolution_accuracy": 0.9,
        "multiply_adds": {"cumulative": [1, 2], "full_resolution": 9},
    }
    written = save_plots(tmp_path, {"a$b$c": metrics, "$": metrics, "_hidden": metrics, r"\frac$": metrics})
    assert [path.name for path in written] == ["anytime.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.filterwarnings("ignore:.* are left out:UserWarning")
def test_unreadable_files_of_folders_are_skipped_and_counted(
    run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = pictures / "1 [bad].jpg"
    bad.write_text("no picture")
    (pictures / "folder.jpg").mkdir()
    os.mkfifo(pictures / "fifo.jpg")

    assert main(["predict", str(run), str(pictures)]) == 0
    captured = capsys.readouterr()
    assert "3 images" in captured.out and "1 unreadable images skipped" in " ".join(captured.out.split())
    assert captured.err == f"gfnet: skipped 1 unreadable images: {bad}\n"

    assert main(["predict", str(run), str(pictures), "--json"]) == 0
    captured = capsys.readouterr()
    assert [Path(row["file"]).name for row in json.loads(captured.out)] == ["0.png", "1.png", "2.png"]
    assert captured.err.startswith("gfnet: skipped 1")

    for arguments in ([str(pictures), "--on-error", "raise"], [str(bad)], [str(pictures), str(bad)]):
        assert main(["predict", str(run), *arguments]) == 1
        captured = capsys.readouterr()
        assert "1 [bad].jpg can't be decoded" in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert main(["predict", str(run), str(bad), str(pictures / "0.png"), "--on-error", "skip", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_wrong_is_one_sentence(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "0.jpg").write_text("no picture")
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    assert main(["predict", str(tmp_path), str(pictures)]) == 1
    assert "policy.safetensors" in capsys.readouterr().err
    for arguments, named in (
        ([str(pictures), "--budget", "1"], "gfnet evaluate"),
        ([str(tmp_path / "empty")], "empty"),
        ([str(tmp_path / "absent.png")], "absent.png"),
        ([str(tmp_path / "fifo.jpg")], "fifo.jpg"),
        ([str(tmp_path / "0.jpg"), "--on-error", "skip"], "none of the 1 files"),
        ([str(pictures), "--thresholds", "0.5"], "thresholds"),
        ([str(pictures), "--thresholds=nan,0,0"], "NaN"),
    ):
        assert main(["predict", str(run), *arguments]) == 1
        error = capsys.readouterr().err
        assert named in error and error.count("\n") == 1
    for option, value in (("--budget", "much"), ("--thresholds", "high")):
        with pytest.raises(SystemExit, match="2"):
            main(["predict", str(run), str(pictures), option, value])
        assert f"{option}: '{value}'" in capsys.readouterr().err


def test_thresholds_may_be_negative(run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for thresholds, steps in (("inf,-1e9,0", 2), ("-inf,0,0", 1)):
        options = ["--criterion", "entropy", f"--thresholds={thresholds}", "--json"]
        assert main(["predict", str(run), str(pictures), *options]) == 0
        assert {row["steps"] for row in json.loads(capsys.readouterr().out)} == {steps}


def test_a_budget_out_of_range_is_refused_before_anything_is_evaluated(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("scripts.commands.evaluate_run")

    assert main(["evaluate", str(run), "--budget", "1"]) == 1

    assert "budget=1 is out of range" in capsys.readouterr().err


def test_the_most_probable_classes_are_shown(run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", str(run), str(pictures), "--top-k"]
    assert main([*command, "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    for row in rows:
        values = [each["probability"] for each in row["top"]]
        assert len(values) == 3 and values == sorted(values, reverse=True) and sum(values) <= 1
        assert (row["top"][0]["label"], values[0]) == (row["label"], row["confidence"])
    assert main([*command, "99", "--json"]) == 0
    for row, few in zip(json.loads(capsys.readouterr().out), rows, strict=True):
        assert row["top"][:3] == few["top"]
        assert sorted(each["label"] for each in row["top"]) == list(range(len(CLASSES)))
        assert sum(each["probability"] for each in row["top"]) == pytest.approx(1, abs=1e-4)
    assert main([*command, "3"]) == 0
    assert printable(rows[0]["top"][1]["class"]) in capsys.readouterr().out
    assert main([*command, "0"]) == 1
    assert "top_k=0" in capsys.readouterr().err
