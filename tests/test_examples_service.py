"""The service: what many clients get at once is what the recognizer says of each picture; health; refusals."""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from agents import load_recognizer
from benchmarks.service import load
from classifiers.data.source import ArrayImages
from examples.service import full_resolution, glances_and_focuses, make_app


def _ask(address: str, content: bytes | None = None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, content), timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["detail"]


@pytest.fixture(scope="module")
def address(tiny_run: Path) -> Iterator[str]:
    recognizer = load_recognizer(tiny_run)
    app = make_app(recognizer, glances_and_focuses(recognizer), most_at_once=8)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_many_clients_get_what_the_recognizer_says(address: str, tiny_run: Path, scenes: ArrayImages) -> None:
    images = scenes.images[:16].permute(0, 2, 3, 1).numpy()
    recognizer = load_recognizer(tiny_run)
    whole = recognizer.predict(images)
    middle = float(np.mean([recognizer.cumulative_multiply_adds[0], recognizer.cumulative_multiply_adds[-1]]))
    budget = float(f"{middle:.1e}")
    recognizer.use(budget=budget)
    cheap = recognizer.predict(images)

    with ThreadPoolExecutor(16) as clients:
        jobs = [clients.submit(_ask, f"{address}/recognize", _png(image)) for image in images]
        jobs += [clients.submit(_ask, f"{address}/recognize?budget={budget}", _png(image)) for image in images]
        answers = [job.result() for job in jobs]

    assert {status for status, _ in answers} == {200}
    for found, some in ((whole, answers[:16]), (cheap, answers[16:])):
        assert [body["looks"] for _, body in some] == found.step.tolist()
        assert [body["class"] for _, body in some] == [scenes.class_names[label] for label in found.label]
        assert [body["confidence"] for _, body in some] == pytest.approx(found.confidence.tolist(), abs=1e-4)
    assert _ask(f"{address}/health") == (200, {"status": "ok", "waiting": 0, "classes": len(scenes.class_names)})


def test_what_is_wrong_is_said_to_the_one_who_asked(address: str, scenes: ArrayImages) -> None:
    picture = _png(scenes.images[0].permute(1, 2, 0).numpy())

    assert _ask(f"{address}/recognize", b"no picture")[0] == 415
    status, sentence = _ask(f"{address}/recognize?budget=1", picture)
    assert status == 422 and "out of range" in sentence
    assert _ask(f"{address}/recognize", picture)[0] == 200
    assert len(load(address, "/recognize", [picture], clients=2, seconds=0.2)) >= 2


def test_the_full_resolution_network_is_served_to_compare(tiny_run: Path, scenes: ArrayImages) -> None:
    images = scenes.images[:4].permute(0, 2, 3, 1).numpy()

    records = full_resolution(str(tiny_run))(images, None)

    assert {each["class"] for each in records} <= set(scenes.class_names)
    assert all(0 < each["confidence"] <= 1 for each in records)
