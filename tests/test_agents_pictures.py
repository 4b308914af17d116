"""Pictures from anywhere for the recognizer: every kind gives the same, addresses have limits, streams are lazy."""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_agents_recognizer import make_recognizer

from agents.recognition.pictures import Downloads
from agents.recognition.recognizer import Recognizer
from classifiers.data.decoding import UnreadableImageError
from classifiers.data.source import ArrayImages
from scripts.cli import main


@pytest.fixture(scope="module")
def recognizer(scenes: ArrayImages) -> Recognizer:
    return make_recognizer(scenes)[0]


@pytest.fixture
def picture(scenes: ArrayImages) -> Image.Image:
    return Image.fromarray(scenes.images[0].permute(1, 2, 0).numpy()).resize((200, 150))


@pytest.fixture
def file(picture: Image.Image, tmp_path: Path) -> Path:
    picture.save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def server(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine; `/a.png` is the picture, the other paths are faults."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content, leave = file.read_bytes(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/missing.png":
                self.send_error(404)
                return
            self.send_response(302 if self.path == "/elsewhere" else 200)
            if self.path == "/elsewhere":
                self.send_header("Location", f"file://{file}")
            if self.path == "/cut.png":
                self.send_header("Content-Length", str(2 * len(content)))
            self.end_headers()
            if self.path in ("/a.png", "/cut.png"):
                self.wfile.write(content)
            elif self.path == "/text":
                self.wfile.write(b"no picture")
            while self.path in ("/endless", "/slow") and not leave.is_set():
                try:
                    self.wfile.write(b"x" * (1 << 16) if self.path == "/endless" else b"x")
                except OSError:
                    return
                time.sleep(0.02 if self.path == "/slow" else 0)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        leave.set()
        httpd.shutdown()
        thread.join()


def test_every_kind_of_picture_gives_the_same(
    recognizer: Recognizer, picture: Image.Image, file: Path, server: str
) -> None:
    pixels, content = np.asarray(picture), file.read_bytes()
    kinds: list[Any] = [file, str(file), content, io.BytesIO(content), picture, pixels]
    kinds += [torch.from_numpy(pixels.copy()).permute(2, 0, 1), {"bytes": content, "path": None}]
    kinds += [{"bytes": None, "path": str(file)}, f"{server}/a.png"]
    with file.open("rb") as opened:
        found = recognizer([*kinds, opened], top_k=3)

    assert len(found) == 11 and all(records == found[0] for records in found)
    for kind in [file, content, picture, pixels]:
        assert recognizer(kind, top_k=3)[0]["label"] == found[0][0]["label"]


def test_records_are_those_of_a_pipeline(recognizer: Recognizer, scenes: ArrayImages, picture: Image.Image) -> None:
    sizes = [(200, 150), (128, 96), (333, 100)]
    names, count = recognizer.class_names, recognizer.classifier.num_classes

    records = recognizer([picture.resize(size) for size in sizes], top_k=99)

    assert [len(each) for each in records] == [count] * 3
    for each in records:
        assert {record["label"] for record in each} == set(names)
        scores = [record["score"] for record in each]
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-5)
    assert len(recognizer(picture)) == 5 and recognizer([]) == []
    arrays = scenes.images[:4].permute(0, 2, 3, 1).numpy()
    expected = recognizer.predict(arrays).label
    for several in (arrays, scenes.images[:4], iter(arrays)):
        assert [each[0]["label"] for each in recognizer(several, top_k=1)] == [names[label] for label in expected]


def test_a_column_of_hugging_face_is_recognized(recognizer: Recognizer, picture: Image.Image) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"image": [picture, picture.rotate(90)]})
    decoded = table.cast_column("image", datasets.Image())
    raw = table.cast_column("image", datasets.Image(decode=False))

    expected = recognizer([picture, picture.rotate(90)])

    assert recognizer(decoded["image"]) == expected == recognizer(raw["image"])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (b"no picture", "a bytes can't be decoded"),
        (np.zeros((20, 20, 3)), "float64 of shape"),
        (np.zeros((3, 20, 20), np.uint8), r"\(3, 20, 20\)"),
        ({"label": 3}, "neither bytes nor path"),
        (None, "none of path, address"),
        ("absent.png", "absent.png can't be decoded"),
        ("clip.mp4", "clip.mp4 is a video"),
        ("ftp://127.0.0.1/a.png", "ftp:"),
    ],
)
def test_what_is_no_picture_is_said(recognizer: Recognizer, wrong: Any, named: str) -> None:
    with pytest.raises(UnreadableImageError, match=named):
        recognizer([wrong])


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/missing.png", "404"),
        ("/elsewhere", "302|redirect"),
        ("/cut.png", r"ended after|more expected"),
        ("/text", "can't be decoded"),
        ("/endless", "larger than 100,000 bytes"),
        ("/slow", "longer than 0.3 s"),
    ],
)
def test_addresses_have_limits(
    recognizer: Recognizer, server: str, path: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Downloads(max_bytes=100_000, timeout_s=0.3 if path == "/slow" else 20)
    monkeypatch.setattr(recognizer, "downloads", limits)

    with pytest.raises(UnreadableImageError, match=named) as error:
        recognizer(server + path)

    assert server + path in str(error.value)


def test_nobody_answers(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    with pytest.raises(UnreadableImageError, match="can't be fetched"):
        recognizer("http://127.0.0.1:9/a.png")


@pytest.mark.parametrize("num_workers", [0, 2, None])
def test_a_stream_takes_no_more_than_it_needs(recognizer: Recognizer, scenes: ArrayImages, num_workers: int) -> None:
    arrays = scenes.images.permute(0, 2, 3, 1).numpy()
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        for taken in itertools.count(1):
            yield arrays[taken % len(arrays)] if taken != 2 else np.zeros(3)

    missing: list[Any] = []
    stream = recognizer.stream(endless(), lambda wrong, _: missing.append(wrong), num_workers=num_workers)
    pictures, found = next(stream)
    _, others = next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator

    assert len(pictures) == len(found.label) == len(others.label) == recognizer.batch_size and len(missing) == 1
    assert found.label.tolist() == recognizer.predict(np.stack(pictures)).label.tolist()
    assert taken <= 2 * recognizer.batch_size + 1 + (0 if num_workers == 0 else recognizer.batch_size + 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]
    with pytest.raises(ValueError, match="num_workers=-1"):
        next(recognizer.stream(arrays, num_workers=-1))


def test_lines_and_parts_cover_all_files(
    tiny_run: Path, picture: Image.Image, file: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(4):
        picture.rotate(90 * index).save(folder / f"{index}.png")
    (folder / "bad.jpg").write_text("no picture")
    command = ["predict", str(tiny_run), str(folder), f"{server}/a.png"]

    assert main([*command, "--json", "--top-k", "2"]) == 0
    whole = {row["file"]: row for row in json.loads(capsys.readouterr().out)}
    lines: list[dict[str, Any]] = []
    for part in ("1/3", "2/3", "3/3"):
        assert main([*command, "--jsonl", "--top-k", "2", "--shard", part, "--workers", "2"]) == 0
        captured = capsys.readouterr()
        lines += map(json.loads, captured.out.splitlines())
        assert "recognizing: " in captured.err

    rows = {row["file"]: row for row in lines}
    assert len(rows) == len(lines) == 6 and "can't be decoded" in rows.pop(str(folder / "bad.jpg"))["error"]
    assert rows.keys() == whole.keys() and f"{server}/a.png" in rows
    for name, row in rows.items():
        assert row["label"] == whole[name]["label"] and len(row["top"]) == 2
        assert row["confidence"] == pytest.approx(whole[name]["confidence"], abs=1e-4)
    assert main([*command, "--shard", "9/9", "--quiet"]) == 0
    assert "part 9 of 9 is empty" in capsys.readouterr().err
    assert main(["predict", str(tiny_run), f"{server}/missing.png", "--jsonl", "--quiet"]) == 1
    captured = capsys.readouterr()
    assert "404" in captured.err and not captured.out
    assert main([*command, "--quiet", "--pictures", str(tmp_path / "out")]) == 0
    assert "0005_a.png" in {path.name for path in (tmp_path / "out").iterdir()}
    for wrong in ("0/3", "4/3", "half"):
        with pytest.raises(SystemExit):
            main([*command, "--shard", wrong])
