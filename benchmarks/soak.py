"""Loads the service or a Ray job while worker processes are killed at random (docs/reliability.md).

python benchmarks/soak.py service RUN --minutes 10
python benchmarks/soak.py ray RUN --minutes 10

Every answer is compared with that of one process. The first worker is spared, so that its memory can be followed.
Ends with status 1 if an answer is missing or differs, or if memory grows over five minutes or more.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from agents import load_recognizer
from agents.recognition.ray_recognizer import RayRecognizer, recognize_with_ray
from agents.runs.images import open_images
from agents.runs.run import load_run

_MOST_GROWTH_MB = 20.0
_TOLERANCE = 1e-4  # of confidences and places: batches of other sizes round differently


@dataclass
class Outcome:
    """What came back: answers asked for, missing and differing ones, and requests that a kill cut off."""

    asked: int = 0
    missing: int = 0
    differing: int = 0
    resent: int = 0


@dataclass(eq=False)  # threads are told apart by identity
class Killer(threading.Thread):
    """Kills a random worker, but never the first, every so many seconds, and samples the memory of those that stay.

    Args:
        workers: finds the worker processes.
        parent: the process that starts them.
        every: mean seconds between kills.
    """

    workers: Callable[[], list[psutil.Process]]
    parent: psutil.Process
    every: float
    kills: int = 0
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {"worker": [], "parent": []})

    def __post_init__(self) -> None:
        super().__init__()
        self.done = threading.Event()

    def run(self) -> None:
        dice, spared, started = random.Random(0), None, time.monotonic()
        due = started + self.every
        while not self.done.wait(0.5):
            now, workers = time.monotonic(), self.workers()
            spared = spared or next(iter(workers), None)
            for who, process in (("worker", spared), ("parent", self.parent)):
                with suppress(psutil.NoSuchProcess):  # a Ray job ends its actors
                    if process is not None:
                        self.samples[who].append((now - started, process.memory_full_info().uss / 1e6))
            others = [each for each in workers if each != spared]
            if now > due and others:
                with suppress(psutil.NoSuchProcess):
                    dice.choice(others).kill()
                    self.kills += 1
                    due = now + self.every * dice.uniform(0.5, 1.5)

    def memory(self, who: str) -> tuple[list[float], float]:
        """Megabytes of its own, the means of five parts of the time, and the slope in MB a minute after the first."""
        seconds, megabytes = np.array(self.samples[who]).T
        parts = (5 * seconds / (seconds[-1] + 1)).astype(int)
        slope = float(np.polyfit(seconds[parts > 0] / 60, megabytes[parts > 0], 1)[0])
        return [float(megabytes[parts == part].mean()) for part in range(5)], slope


def children(parent: psutil.Process, word: str) -> list[psutil.Process]:
    """Processes below another one whose command line holds a word, oldest first."""
    found = []
    for each in parent.children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if word in " ".join(each.cmdline()):
                found.append(each)
    return sorted(found, key=lambda each: each.create_time())


def write_pictures(run: Path, folder: Path, count: int) -> list[str]:
    """Some of a run's test images as PNG files."""
    source = open_images(load_run(run).config, "test")
    paths = []
    for index, image in enumerate(source.fetch(torch.arange(min(count, len(source)))).images):
        paths.append(str(folder / f"{index:04}.png"))
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(paths[-1])
    return paths


def differs(found: Any, expected: Any) -> bool:
    """Whether two answers are not the same but for rounding."""
    if isinstance(expected, dict):
        return found.keys() != expected.keys() or any(differs(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) != len(expected) or any(map(differs, found, expected))
    return abs(found - expected) > _TOLERANCE if isinstance(expected, float) else bool(found != expected)


def soak_service(run: Path, pictures: list[str], options: argparse.Namespace) -> tuple[Outcome, Killer]:
    """Clients ask uvicorn's workers, which its supervisor starts again; a request that is cut off is sent again."""
    from examples.service import glances_and_focuses

    recognizer = load_recognizer(run)
    predict, costs = glances_and_focuses(recognizer), recognizer.cumulative_multiply_adds
    contents = [Path(picture).read_bytes() for picture in pictures]
    images = np.stack([recognizer.decode(content) for content in contents])
    middle = (costs[0] + costs[-1]) // 2
    queries = {"": None, f"?budget={middle}": float(middle)}
    expected = {query: predict(images, budget) for query, budget in queries.items()}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uvicorn = [sys.executable, "-m", "uvicorn", "--factory", "examples.service:from_environment", "--port", str(port)]
    words = ["--workers", str(options.workers), "--log-level", "warning"]
    words += ["--timeout-worker-healthcheck", "60"]  # a worker without a processor is not a dead one
    outcome, lock = Outcome(), threading.Lock()

    def ask(path: str, content: bytes | None = None) -> Any:
        while True:
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", content)
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError:
                raise
            except (OSError, http.client.HTTPException):  # the worker was killed
                if time.monotonic() > until + 60:
                    return None
                with lock:
                    outcome.resent += 1
                time.sleep(0.1)

    def client(number: int) -> None:
        dice = random.Random(number)
        while time.monotonic() < until:
            index, query = dice.randrange(len(contents)), dice.choice(list(queries))
            answer = ask(f"/recognize{query}", contents[index])
            with lock:
                outcome.asked += 1
                outcome.missing += answer is None
                outcome.differing += answer is not None and differs(answer, expected[query][index])

    with subprocess.Popen([*uvicorn, *words], env={**os.environ, "GFNET_RUN": str(run)}) as supervisor:
        try:
            until = time.monotonic() + 60
            ask("/health")
            outcome.resent = 0
            parent = psutil.Process(supervisor.pid)
            killer = Killer(partial(children, parent, "spawn_main"), parent, options.kill_every)
            until = time.monotonic() + 60 * options.minutes
            killer.start()
            with ThreadPoolExecutor(options.clients) as clients:
                list(clients.map(client, range(options.clients)))
            killer.done.set()
            killer.join()
        finally:
            supervisor.terminate()
    return outcome, killer


def soak_ray(run: Path, pictures: list[str], options: argparse.Namespace) -> tuple[Outcome, Killer]:
    """One job over the pictures, repeated so often that one process would need the time."""
    import pyarrow
    from pyarrow import parquet

    load = partial(load_recognizer, run.absolute())
    alone, table = RayRecognizer(load), pyarrow.table({"path": pictures})
    expected = {row["path"]: row for row in alone(table).to_pylist()}
    started = time.monotonic()
    alone(table)
    repeats = max(1, round(60 * options.minutes / (time.monotonic() - started)))
    parent = psutil.Process()
    killer = Killer(partial(children, parent, "ray::MapWorker"), parent, options.kill_every)
    killer.start()
    with tempfile.TemporaryDirectory() as folder:
        try:
            recognize_with_ray(load, pictures * repeats, Path(folder) / "rows", jobs=options.workers)
        finally:
            killer.done.set()
            killer.join()
        rows = parquet.read_table(f"{folder}/rows").to_pylist()
    found = Counter(row["path"] for row in rows)
    missing = sum(abs(repeats - found[picture]) for picture in pictures)  # too many are as wrong as too few
    differing = sum(differs(row, expected[row["path"]]) for row in rows)
    return Outcome(len(pictures) * repeats, missing, differing), killer


def main() -> int:
    """Prints a table of what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("service", "ray"))
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--kill-every", type=float, default=20.0, help="mean seconds between kills")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8, help="of the service")
    parser.add_argument("--pictures", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    soak = soak_service if options.part == "service" else soak_ray
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        outcome, killer = soak(options.run, write_pictures(options.run, Path(folder), options.pictures), options)
    print(f"{options.part}, {(time.monotonic() - started) / 60:.1f} minutes: {outcome}, {killer.kills} kills")
    print("| memory of | MB in each fifth of the time | MB a minute after the first |\n|---|---|---|")
    grown = False
    for who in killer.samples:
        means, slope = killer.memory(who)
        grown |= options.minutes >= 5 and means[-1] - means[1] > _MOST_GROWTH_MB
        print(f"| {who} | {', '.join(f'{mean:.0f}' for mean in means)} | {slope:+.2f} |")
    return int(bool(outcome.missing or outcome.differing or grown))


if __name__ == "__main__":
    sys.exit(main())
