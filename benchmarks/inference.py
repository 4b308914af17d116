"""How much of the saved multiply-adds becomes saved time: images per second of the full-resolution network and of the
recogniser, in one process and in turn (Table 1).

The paper's networks have random weights and the exits of its average budgets; a run's folder has its own networks and
test images, and the budget that is passed. Both sides are frozen and compiled and run at the batch size that suits them
best.

python benchmarks/inference.py [NAME|RUN...] [--budget 12.2e6] [--device cuda] [--json]
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.config_files import load_config
from agents.deterministic_policy import DeterministicPolicy, agent_locator
from agents.evaluation import evaluate
from agents.loaded_run import blank_agent, load_run
from agents.policy_cost import policy_multiply_adds
from agents.recognizer import Recognizer
from agents.run import open_images
from classifiers.datasets.image_source import ArrayImages, nameless_classes
from classifiers.encoders import Encoder
from classifiers.frozen import CompiledEncoder, fold_batch_norms, frozen
from classifiers.glance_focus import GlanceFocusClassifier
from classifiers.multiply_adds import encoder_cost

NUM_CLASSES = 1000


@dataclass(frozen=True)
class Case:
    """A row of Table 1.

    Attributes:
        config: the shipped config.
        budget: the paper's average multiply-adds per image.
        paper: the share of the multiply-add ratio that its code realises on a GPU.
    """

    config: str
    budget: float
    paper: float


CASES = {
    "resnet50": Case("resnet50_96", 2.16e9, 0.98),
    "densenet121": Case("densenet121_96", 1.09e9, 0.79),
    "densenet169": Case("densenet169_96", 1.83e9, 0.81),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help=f"which: {', '.join(CASES)}, or runs")
    parser.add_argument("--budget", type=float, help="of runs: average multiply-adds (thresholds: best)")
    parser.add_argument("--images", type=int, default=768, help="the network itself runs on a third of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 128], help="sizes to try, the best is taken")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        rows = [measure(name, options) for name in options.names or CASES]
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    if options.json:
        print(json.dumps(rows))
        return
    print("| network | multiply-adds, full / ours | ratio | images/s, full | ours | ratio | realised | the paper |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['full_multiply_adds'] / 1e6:.1f} M / {row['multiply_adds'] / 1e6:.1f} M | "
            f"{row['multiply_add_ratio']:.2f} | {row['full_images_per_s']:.1f} (batch {row['full_batch']}) | "
            f"{row['images_per_s']:.1f} (batch {row['batch']}) | {row['speed_ratio']:.2f} | "
            f"**{row['realised']:.2f}** | {row['paper_realised'] or '-'} |"
        )


@dataclass(frozen=True)
class Sides:
    """Both sides of a comparison.

    Attributes:
        network: the full-resolution network: images to labels.
        network_cost: its multiply-adds for one image.
        ours: a recogniser with so many images in a forward.
        images: (N, 3, H, W) uint8.
    """

    network: Callable[[Tensor], Tensor]
    network_cost: int
    ours: Callable[[int], Recognizer]
    images: Tensor


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Both sides of one network, or of a run."""
    torch.manual_seed(0)
    device = torch.device(options.device)
    both = papers_sides(CASES[name], options.images, device) if name in CASES else runs_sides(Path(name), options)
    ours = {size: both.ours(size) for size in options.batch_sizes}
    sides: dict[tuple[str, int], Callable[[], object]] = {}
    num_images: dict[tuple[str, int], int] = {}
    for size in options.batch_sizes:
        fewer = both.images[: len(both.images) // 3 // size * size]  # whole batches: no shape is compiled twice
        num_images["full", size], num_images["ours", size] = len(fewer), len(both.images)
        sides["full", size] = lambda size=size, fewer=fewer: [both.network(part) for part in fewer.split(size)]  # type: ignore[misc]  # binds the loop variables
        sides["ours", size] = lambda size=size: ours[size].predict(both.images)  # type: ignore[misc]  # likewise
    for run in sides.values():
        run()  # compiles
    times: dict[tuple[str, int], list[float]] = {side: [] for side in sides}  # seconds of one image
    for _ in range(options.rounds):
        for side, run in sides.items():
            times[side].append(_seconds(run, device) / num_images[side])
    seconds = {side: statistics.median(taken) for side, taken in times.items()}
    full, full_batch = min((taken, size) for (kind, size), taken in seconds.items() if kind == "full")
    fast, batch = min((taken, size) for (kind, size), taken in seconds.items() if kind == "ours")
    # neighbours in time are compared, so that a machine that slows down does not count
    ratios = [one / other for one, other in zip(times["full", full_batch], times["ours", batch], strict=True)]
    speed_ratio = statistics.median(ratios)
    found = ours[batch].predict(both.images)
    saved = both.network_cost / found.multiply_adds.mean()
    return {
        "name": name,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads",
        "images": len(both.images),
        "full_multiply_adds": both.network_cost,
        "multiply_adds": float(found.multiply_adds.mean()),
        "exits": (np.bincount(found.step - 1) / len(both.images)).tolist(),
        "multiply_add_ratio": float(saved),
        "full_images_per_s": 1 / full,
        "full_batch": full_batch,
        "images_per_s": 1 / fast,
        "batch": batch,
        "speed_ratio": speed_ratio,
        "realised": float(speed_ratio / saved),
        "realised_by_round": [float(ratio / saved) for ratio in ratios],
        "paper_realised": CASES[name].paper if name in CASES else None,
    }


def papers_sides(case: Case, count: int, device: torch.device) -> Sides:
    """A network of the paper's, with random weights, on images without meaning."""
    config = load_config(case.config)
    classifier = GlanceFocusClassifier(config.classifier, NUM_CLASSES).eval().to(device)
    images = varied_images(count, config.data.image_size).to(device)
    agent = blank_agent(config, frozen(classifier), nameless_classes(NUM_CLASSES))
    cost, locate = policy_multiply_adds(agent), agent_locator(agent)
    nothing = torch.zeros(len(images), dtype=torch.int64)
    source = ArrayImages(images.cpu(), nothing, torch.zeros(len(images), 4, dtype=torch.int64), nameless_classes(1000))
    calibration = evaluate(frozen(classifier), source, lambda batch: locate, policy_cost=cost, batch_size=32)
    twin = frozen(classifier, compile=True)
    policy = DeterministicPolicy(agent.policy.to(device).eval())  # type: ignore[union-attr]  # not a fixed agent

    def ours(size: int) -> Recognizer:
        made = Recognizer(twin, policy, policy_cost=cost, calibration=calibration, batch_size=size)
        made.use(budget=case.budget)
        return made

    network_cost = encoder_cost(classifier.local_encoder, config.data.image_size, with_classifier=True)
    return Sides(compiled(classifier.local_encoder), network_cost, ours, images)


def runs_sides(folder: Path, options: argparse.Namespace) -> Sides:
    """A trained run on its own test images."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder of a run; pass one, or {', '.join(CASES)}")
    run = load_run(folder)
    if run.full_resolution is None or options.budget is None:
        raise ValueError(f"{folder}: pass --budget, and a run that has a full-resolution network")
    images = open_images(run.config.data, "test").fetch(torch.arange(options.images)).images.to(options.device)

    def ours(size: int) -> Recognizer:
        return Recognizer.load(folder, budget=options.budget, method="best", batch_size=size, compile=True)

    encoder = run.full_resolution.encoder
    network_cost = encoder_cost(encoder, run.config.data.image_size, with_classifier=True)
    return Sides(compiled(encoder), network_cost, ours, images)


def varied_images(count: int, size: tuple[int, int]) -> Tensor:
    """(N, 3, H, W) uint8: soft blotches under noise, so that random networks tell them apart."""
    generator = torch.Generator().manual_seed(0)
    blotches = torch.rand(count, 3, 6, 6, generator=generator)
    large = nn.functional.interpolate(blotches, size=size, mode="bilinear")
    noise = 0.2 * torch.rand(count, 3, *size, generator=generator)
    return ((large + noise) / 1.2 * 255).to(torch.uint8)


def compiled(encoder: Encoder) -> Callable[[Tensor], Tensor]:
    """A network on whole images, as fast as we can make it: by the same means as the recogniser's."""
    encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
    encoder.trunk = fold_batch_norms(encoder.trunk).to(memory_format=torch.channels_last)
    fast = CompiledEncoder(encoder)

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        labels: Tensor = encoder.classifier(fast.encode_pixels(images).pooled).argmax(dim=1)
        return labels

    return run


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
