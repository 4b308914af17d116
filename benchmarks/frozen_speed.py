"""How much faster the frozen copy of a classifier is, both measured alternately in one process.

python benchmarks/frozen_speed.py [--compile]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from classifiers import ClassifierSpec, GlanceFocusClassifier, frozen

CASES = (
    ("small_resnet", 48, 256, ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=4, hidden_size=128)),
    ("resnet18", 96, 32, ClassifierSpec(encoder="resnet18", patch_size=96)),
    ("resnet50", 96, 32, ClassifierSpec(encoder="resnet50", patch_size=96)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true", help="also compile the copy")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"{options.rounds} rounds; pass 1 or more")
    print("| encoder | patch | batch | original ms | frozen ms | ratio |\n|---|---|---|---|---|---|")
    for name, side, batch, spec in CASES:
        original = GlanceFocusClassifier(spec, 10).eval()
        twin = frozen(original, compile=options.compile)
        patches = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
        hidden = torch.zeros(batch, original.hidden_size)
        slow: list[float] = []
        fast: list[float] = []
        with torch.no_grad():
            for measured, classifier in [(slow, original), (fast, twin)] * (options.rounds + 1):
                measured.append(_milliseconds(partial(classifier.focus, patches, hidden)))
        before, after = statistics.median(slow[1:]), statistics.median(fast[1:])
        print(f"| {name} | {side} | {batch} | {before:.1f} | {after:.1f} | {before / after:.2f} |")


def _milliseconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
