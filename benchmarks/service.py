"""Loads a service with pictures: requests a second, and how long they take (`examples/service.py`).

python benchmarks/service.py PICTURES --budget 11e6 --clients 1 8 32 --seconds 10

Each client sends its next picture as soon as it has an answer, over a connection that stays open.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np


def ask(address: str, path: str, contents: list[bytes], first: int, until: float, took: list[float]) -> None:
    """Sends pictures until a time; appends the seconds that each took."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    for content in itertools.islice(itertools.cycle(contents), first, None):
        started = time.perf_counter()
        if started > until:
            break
        connection.request("POST", path, content)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {text.decode()}")
        took.append(time.perf_counter() - started)
    connection.close()


def load(address: str, path: str, contents: list[bytes], clients: int, seconds: float) -> list[float]:
    """The seconds that each request took while some clients ask at once."""
    took: list[float] = []
    until = time.perf_counter() + seconds
    threads = [
        threading.Thread(target=ask, args=(address, path, contents, number % len(contents), until, took))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def main() -> None:
    """Prints a row for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a folder of image files")
    parser.add_argument("--address", default="http://127.0.0.1:8000")
    parser.add_argument("--budget", type=float, help="multiply-adds per picture; none takes every look")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    contents = [path.read_bytes() for path in sorted(options.pictures.iterdir()) if path.is_file()]
    path = "/recognize" if options.budget is None else f"/recognize?budget={options.budget}"
    load(options.address, path, contents, 1, 1.0)  # finds the thresholds, fills caches
    print("| clients | requests a second | p50 ms | p99 ms |\n|---|---|---|---|")
    for clients in options.clients:
        took = load(options.address, path, contents, clients, options.seconds)
        p50, p99 = 1000 * np.percentile(took, [50, 99])
        print(f"| {clients} | {len(took) / options.seconds:.0f} | {p50:.1f} | {p99:.1f} |")


if __name__ == "__main__":
    main()
