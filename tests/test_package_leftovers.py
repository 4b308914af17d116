"""No thread, process or open file is left behind: after `close`, after an error in the middle, or without `close`."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from conftest import TINIER, random_classifier
from torch import Tensor

from agents.policies.baselines import CenterCornerPolicy
from agents.recognition.recognizer import Recognizer
from classifiers.data.decoding import UnreadableImageError
from classifiers.data.loading import EpochLoader
from classifiers.data.source import ArrayImages, Batch
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.spec import ClassifierSpec
from classifiers.training.fit_spec import FitSpec
from classifiers.training.stages import train_full_resolution
from gfnet_env import Task
from scripts.cli import main
from scripts.page.game import Game
from scripts.page.server import GameServer

multiprocessing.get_context("forkserver").set_forkserver_preload(["classifiers.training.stages"])  # imported once

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads Linux's /proc")

FOLDER = "GFNet-ImageFolder-v0"
_OF_TQDM = "tqdm_monitor"  # which starts one for the whole process when torch.fx first interprets a network


def _processes(parent: str) -> Iterator[str]:
    """Processes below one, at any depth, that have not ended."""
    for path in Path(f"/proc/{parent}/task").glob("*/children"):
        for child in path.read_text().split():
            if " Z " not in Path(f"/proc/{child}/stat").read_text():
                yield f"process {child}"
                yield from _processes(child)


def _open_files() -> Iterator[str]:
    for handle in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{handle}"
        if os.path.lexists(path):  # not the listing's own
            yield f"file {os.readlink(path)}"


def _alive() -> Counter[str]:
    threads = (f"thread {thread.name} {thread.ident}" for thread in threading.enumerate() if thread.name != _OF_TQDM)
    return Counter([*threads, *_processes("self"), *_open_files()])


@contextmanager
def nothing_left(*kinds: str) -> Iterator[None]:
    """Fails if the block leaves something behind, of these kinds or any, that does not end within seconds."""
    gc.collect()
    before = _alive()
    yield
    until = time.monotonic() + 20
    while (left := _left(before, kinds)) and time.monotonic() < until:
        gc.collect()
        time.sleep(0.02)
    assert left == []


def _left(before: Counter[str], kinds: tuple[str, ...] = ()) -> list[str]:
    return sorted(name for name in _alive() - before if name.startswith(kinds or ""))


def test_what_is_left_is_found(tmp_path: Path) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="mine")
    before = _alive()
    thread.start()
    with (tmp_path / "file").open("w"):
        left = _left(before)
    stop.set()
    thread.join()
    assert left == [f"file {tmp_path / 'file'}", f"thread mine {thread.ident}"]


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("is_vector", [True, False])
def test_environments(is_vector: bool, is_closed: bool, picture_tree: Path) -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=3, hidden_size=8)
    options = {"root": picture_tree, "image_size": (96, 128), "decode_threads": 3}
    options["classifier"] = random_classifier(spec, 2)
    with nothing_left():
        env: Any = gymnasium.make_vec(FOLDER, num_envs=2, **options) if is_vector else gymnasium.make(FOLDER, **options)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        if is_closed:
            env.close()
        del env


def test_recognizers(classifier: FrozenClassifier, picture_tree: Path) -> None:
    files = sorted(picture_tree.rglob("*.jpg"))
    with nothing_left():
        recognizer = Recognizer(classifier, CenterCornerPolicy(), image_size=(96, 128), batch_size=5)
        assert len(recognizer.predict_files(files).label) == len(files)
        files[-1].write_bytes(files[-1].read_bytes()[:400])  # the header is whole
        with pytest.raises(UnreadableImageError):
            recognizer.predict_files(files)
        del recognizer


class Broken(ArrayImages):
    """Images of which the last can't be fetched."""

    def fetch(self, indices: Tensor) -> Batch:
        if len(self) - 1 in indices.tolist():
            raise UnreadableImageError("the last one is broken")
        return super().fetch(indices)


@pytest.mark.slow
def test_loaders_with_processes() -> None:
    """Workers come from a server of Python's, which stays, and read images that it shares: both are begun before."""
    images = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8)
    source = ArrayImages(images, torch.arange(32) % 2, torch.zeros(32, 4, dtype=torch.int64), ("a", "b"))
    plan = list(torch.arange(32).split(4))
    first = EpochLoader(source, 1, torch.device("cpu"))
    assert len(list(first.batches(0, plan))) == 8
    first.close()
    spec = FitSpec(epochs=2, batch_size=8, optimizer="sgd", lr=0.1, weight_decay=0.0, num_workers=1)
    network = FullResolutionNetwork(build_encoder("small_resnet", 2, None))

    with nothing_left():
        loader = EpochLoader(source, 1, torch.device("cpu"))
        assert len(list(loader.batches(0, plan))) == 8
        batches = iter(loader.batches(1, plan))
        next(batches)
        del batches
        loader.close()
    with nothing_left():
        dropped = EpochLoader(source, 1, torch.device("cpu"))
        next(iter(dropped.batches(0, plan)))
        del dropped

    def fail(done: int, total: int, figures: dict[str, float]) -> None:
        if done == 3:
            raise RuntimeError("in the middle")

    with nothing_left("process", "thread"), pytest.raises(RuntimeError, match="in the middle") as error:
        train_full_resolution(network, source, spec, seed=0, on_progress=fail)
    assert error.traceback  # its frames are still alive, and hold a batch
    del error
    with nothing_left(), pytest.raises(UnreadableImageError, match="the last one is broken"):
        train_full_resolution(
            network, Broken(source.images, source.labels, source.boxes, source.class_names), spec, seed=0
        )


@pytest.mark.slow
def test_runs_that_are_whole_and_runs_that_fail(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Matplotlib keeps the fonts open that it has drawn with: `tiny_run` has drawn the same plots."""
    with nothing_left():
        assert main(["demo", "--out", str(tmp_path / "run"), "--quiet", *TINIER]) == 0

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device", "a file")

    monkeypatch.setattr("agents.runs.pipeline.save_policy", fail)
    with nothing_left(), pytest.raises(OSError, match="a file"):  # raised by this module, so it passes through
        main(["demo", "--out", str(tmp_path / "failed"), "--quiet", *TINIER])


def test_a_game(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    with nothing_left():
        game = Game(Task(scenes, frozen(classifier)), CenterCornerPolicy(), "center", 0)
        with GameServer(game) as server:
            serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            serving.start()
            with urllib.request.urlopen(server.url, timeout=60) as page:
                assert b"<html" in page.read().lower()
            server.shutdown()
            serving.join()
        game.close()
