"""Recognition on Ray: rows as one process has them, whatever happens to an actor."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_SCENES
from PIL import Image

import agents
from agents.recognition import ray_recognizer
from agents.recognition.ray_recognizer import RayRecognizer, recognize_with_ray
from classifiers.data.drawings import load_scenes
from scripts.cli import main


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, image in enumerate(load_scenes(SMALL_SCENES, "test", 12).images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index:02}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def _expected(run: Path, pictures: Path) -> list[dict[str, Any]]:
    recognizer = agents.load_recognizer(run)
    recognizer.use(thresholds=[0.9, 0.5, 0.0])
    files = sorted(map(str, pictures.glob("[0-9]*.png")))
    found = recognizer.predict_files(files)
    return [
        {
            "path": file,
            "label": found.label[row],
            "class": recognizer.class_names[found.label[row]],
            "confidence": pytest.approx(found.confidence[row], abs=1e-5),
            "step": found.step[row],
            "multiply_adds": found.multiply_adds[row],
            "places": [
                pytest.approx(place, abs=1e-5) for place in found.locations[row, : found.step[row] - 1].tolist()
            ],
            "error": None,
        }
        for row, file in enumerate(files)
    ]


def _load(run: Path) -> agents.Recognizer:
    recognizer = agents.load_recognizer(run)
    recognizer.use(thresholds=[0.9, 0.5, 0.0])
    return recognizer


def _load_and_die_once(run: Path, marker: Path) -> agents.Recognizer:
    """A recognizer whose process is killed at its second batch; the next one lives."""
    recognizer, decode = _load(run), agents.Recognizer.decode
    calls: list[str] = []

    def fatal(picture: Any, on_short: Any = None) -> Any:
        calls.append(picture)
        if len(calls) > 3 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), 9)
        return decode(recognizer, picture, on_short)

    recognizer.decode = fatal  # type: ignore[method-assign]
    return recognizer


def test_a_batch_of_paths_becomes_rows(tiny_run: Path, pictures: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    files = sorted(map(str, pictures.iterdir()))
    table = RayRecognizer(partial(_load, tiny_run))(pyarrow.table({"path": [*files, files[0]]}))

    rows = table.to_pylist()
    assert rows[:12] == _expected(tiny_run, pictures)
    assert rows[13] == rows[0] and rows[12]["path"] == files[12]
    assert "broken.png" in rows[12]["error"] and rows[12]["label"] is None and rows[12]["places"] is None


def test_without_ray_and_with_options_of_the_other_engine_it_is_one_sentence(
    tiny_run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec, out = importlib.util.find_spec, str(tmp_path / "out")
    hidden = lambda name: None if name == "ray" else find_spec(name)  # noqa: E731
    monkeypatch.setattr(ray_recognizer.importlib.util, "find_spec", hidden)
    ray = ["predict", str(tiny_run), str(pictures), "--engine", "ray"]
    for words, said in (
        ([*ray, "--out", out], "pip install 'gfnet-gym[ray]'"),
        ([*ray, "--out", out, "--jobs", "0"], "--jobs 0"),
        ([*ray, "--out", str(pictures)], "exists"),
        (ray, "pass --out FOLDER"),
        ([*ray, "--out", out, "--jsonl"], "--jsonl has no effect"),
        ([*ray, "--out", out, "--top-k", "2"], "--top-k has no effect"),
        ([*ray[:3], "--out", out], "--out has no effect with --engine local"),
    ):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from inside Ray
def test_two_actors_lose_nothing_though_one_is_killed(tiny_run: Path, pictures: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from pyarrow import parquet

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # actors don't find the tests
    marker = tmp_path / "killed"
    load = partial(_load_and_die_once, tiny_run, marker)
    failed = recognize_with_ray(load, sorted(pictures.iterdir()), tmp_path / "rows", jobs=2, batch_size=2)

    rows = sorted(parquet.read_table(tmp_path / "rows").to_pylist(), key=lambda row: row["path"])
    assert marker.exists() and failed == 1
    assert rows[:12] == _expected(tiny_run, pictures) and "broken.png" in rows[12]["error"] and len(rows) == 13
