"""How much time compiled encoders save by computing the small maps of a batch together, both sides in one process.

python benchmarks/small_maps.py [--rounds N] [ENCODER ...]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch

from classifiers.inference.compiled import CompiledEncoder
from classifiers.inference.fold_batch_norms import fold_batch_norms
from classifiers.inference.small_maps import batch_small_maps
from classifiers.networks.encoders import Encoder, build_encoder

CASES = {"resnet50": (32, 96), "mobilenetv3_large_100": (32, 96), "small_resnet": (128, 48)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("encoders", nargs="*", metavar="ENCODER", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    unknown = [name for name in options.encoders if name not in CASES]
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such encoder; pass names of {', '.join(CASES)}")
    if options.rounds < 1:
        parser.error(f"{options.rounds} rounds; pass 1 or more")
    print("| encoder | images | one by one, ms | together, ms | ratio |\n|---|---|---|---|---|")
    for name in options.encoders or CASES:
        count, side = CASES[name]
        one_by_one = build_encoder(name, 1000).eval().requires_grad_(False)
        one_by_one.trunk = fold_batch_norms(one_by_one.trunk).to(memory_format=torch.channels_last)
        together = copy.deepcopy(one_by_one)
        batch_small_maps(together.trunk)
        before, after = _in_turn(one_by_one, together, torch.rand(count, 3, side, side), options.rounds)
        ratio = statistics.median(new / old for old, new in zip(before, after, strict=True))
        medians = " | ".join(f"{1e3 * statistics.median(times):.1f}" for times in (before, after))
        print(f"| {name} | {count} of {side}x{side} | {medians} | {ratio:.2f} |", flush=True)


@torch.inference_mode()
def _in_turn(before: Encoder, after: Encoder, images: torch.Tensor, rounds: int) -> list[list[float]]:
    sides = [CompiledEncoder(encoder, micro_batch_size=len(images)) for encoder in (before, after)]
    times: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for side, measured in zip(sides, times, strict=True):
            started = time.perf_counter()
            side(images)
            measured.append(time.perf_counter() - started)
    return [measured[1:] for measured in times]


if __name__ == "__main__":
    main()
