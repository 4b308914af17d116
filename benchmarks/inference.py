"""How much of the saved multiply-adds becomes saved time: images per second of the full-resolution network and of the
recogniser, alternating every second in one process (Table 1).

The paper's networks have random weights and the exits of its average budgets; a run is measured with its own networks
and test images, at the given budget. Both sides are frozen and compiled. The full-resolution network is measured at
each of the given batch sizes and the fastest counts; the recogniser chooses its own.

"Realised" is the ratio of the speeds divided by the ratio of the multiply-adds. "Encoders" is the same for the encoders
alone: the speed of f_L on patches, per multiply-add, compared with the network on whole images.

python benchmarks/inference.py [NAME|RUN...] [--budget 12.2e6] [--device cuda] [--json]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.evaluation.rollout import evaluate
from agents.policies.deterministic import DeterministicPolicy
from agents.recognition.recognizer import Recognition, Recognizer
from agents.runs.config_files import load_config
from agents.runs.images import open_images
from agents.runs.loaded import blank_agent, load_recognizer, load_run
from classifiers.data.source import ArrayImages, nameless_classes
from classifiers.files import json_text
from classifiers.inference.compiled import CompiledEncoder
from classifiers.inference.frozen import fold_batch_norms, frozen
from classifiers.networks.costs import encoder_cost
from classifiers.networks.encoders import Encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import Glimpse

NUM_CLASSES = 1000


@dataclass(frozen=True)
class Case:
    """A row of Table 1.

    Attributes:
        config: the shipped config.
        budget: the paper's average multiply-adds per image.
        paper: the fraction of the multiply-add ratio that its code realises on a GPU.
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
    parser.add_argument("--images", type=int, default=640, help="for the recogniser in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="of the network itself; 8 32, or 128 on a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(*(options.batch_sizes or [1]), options.images, options.rounds) < 1:
        parser.error("batch sizes, images and rounds are counts; pass 1 or more of each")
    try:
        rows = [measure(name, options) for name in options.names or CASES]
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    if options.json:
        print(json_text(rows))
        return
    print(
        "| network | multiply-adds, full / ours | ratio | images/s, full | ours | ratio | realised | encoders | paper |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['name']} | {row['full_multiply_adds'] / 1e6:.1f} M / {row['multiply_adds'] / 1e6:.1f} M | "
            f"{row['multiply_add_ratio']:.2f} | {row['full_images_per_s']:.1f} (batch {row['full_batch']}) | "
            f"{row['images_per_s']:.1f} | {row['speed_ratio']:.2f} | **{row['realised']:.2f}** | "
            f"{row['encoders_realise']:.2f} | {row['paper_realised'] or '-'} |"
        )


@dataclass(frozen=True)
class Sides:
    """Both sides of a comparison.

    Attributes:
        encoder: of the full-resolution network.
        network_cost: its multiply-adds for one image.
        ours: the recogniser.
        images: (N, 3, H, W) uint8.
    """

    encoder: Encoder
    network_cost: int
    ours: Recognizer
    images: Tensor


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measures both sides of a network or of a run."""
    torch.manual_seed(0)
    device = torch.device(options.device)
    both = papers_sides(CASES[name], options.images, device) if name in CASES else runs_sides(Path(name), options)
    local, patch = both.ours.classifier.local_encoder, (both.ours.classifier.spec.patch_size,) * 2
    patches = varied_images(both.ours.batch_size, patch, local.num_frames).to(device)
    for count in (both.ours.batch_size, 1):  # the first call compiles
        both.ours.predict(both.images[:count])
        _encode(local, patches[:count])
    sizes = options.batch_sizes or ([8, 32] if device.type == "cpu" else [128])
    networks = [_network(both, size) for size in sizes]
    trials = [[_seconds(run, device) / count for count, run in networks] for _ in range(4)][1:]
    best = int(np.argmin(np.median(trials, axis=0)))
    turns = Turns([networks[best], (len(patches), lambda: _encode(local, patches))], device)
    rounds = [turns.take(both.ours, both.images) for _ in range(options.rounds)]
    full, ours, by_patch = np.array([seconds for seconds, _ in rounds]).T
    patch_cost = encoder_cost(local, patch, with_classifier=False)
    found = rounds[-1][1]
    saved = float(both.network_cost / found.multiply_adds.mean())
    return {
        "name": name,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads",
        "images": len(both.images),
        "full_multiply_adds": both.network_cost,
        "multiply_adds": float(found.multiply_adds.mean()),
        "exits": (np.bincount(found.step - 1) / len(both.images)).tolist(),
        "multiply_add_ratio": saved,
        "full_images_per_s": float(1 / np.median(full)),
        "full_batch": sizes[best],
        "images_per_s": float(1 / np.median(ours)),
        "speed_ratio": float(np.median(full / ours)),
        "realised": float(np.median(full / ours)) / saved,
        "realised_by_round": (full / ours / saved).tolist(),
        "encoders_realise": float(np.median(full / by_patch)) * patch_cost / both.network_cost,
        "paper_realised": CASES[name].paper if name in CASES else None,
    }


class Turns:
    """Interrupts the recogniser every second to run others, so that a drift of the machine's speed affects all alike.

    Args:
        others: for each, the images in a run, and the run.
        device: of all.
    """

    def __init__(self, others: list[tuple[int, Callable[[], object]]], device: torch.device) -> None:
        self.others = others
        self._device = device
        self._times: list[list[float]] = []
        self._worked, self._since = 0.0, 0.0

    def take(self, ours: Recognizer, images: Tensor) -> tuple[tuple[float, float, float], Recognition]:
        """Seconds per image of the first other, of ours and of the second other; and the recogniser's predictions."""
        self._times, self._worked = [[] for _ in self.others], 0.0
        classifier = ours.classifier
        classifier.glance, classifier.focus = self._before(classifier.glance), self._before(classifier.focus)  # type: ignore[method-assign]
        try:
            self._since = time.perf_counter()
            found = ours.predict(images)
            self._let_others_run()
        finally:
            del classifier.glance, classifier.focus
        first, second = (statistics.fmean(times) for times in self._times)
        return (first, self._worked / len(images), second), found

    def _before(self, forward: Callable[..., Glimpse]) -> Callable[..., Glimpse]:
        def run(*inputs: Tensor) -> Glimpse:
            if time.perf_counter() - self._since > 1.0:
                self._let_others_run()
            return forward(*inputs)

        return run

    def _let_others_run(self) -> None:
        """Runs each for half the time that ours has run since the last interruption."""
        _wait(self._device)
        worked = time.perf_counter() - self._since
        self._worked += worked
        for (count, run), times in zip(self.others, self._times, strict=True):
            until = time.perf_counter() + worked / 2
            while not times or time.perf_counter() < until:
                times.append(_seconds(run, self._device) / count)
        self._since = time.perf_counter()


def _network(both: Sides, size: int) -> tuple[int, Callable[[], object]]:
    network, images = compiled(both.encoder, size), both.images[:size]
    return len(images), lambda: network(images)


def papers_sides(case: Case, count: int, device: torch.device) -> Sides:
    """A network of the paper with random weights, on random images."""
    config = load_config(case.config)
    classifier = GlanceFocusClassifier(config.classifier, NUM_CLASSES).eval().to(device)
    images = varied_images(count, config.data.image_size).to(device)
    agent = blank_agent(config, frozen(classifier), nameless_classes(NUM_CLASSES))
    agent.policy.to(device)
    some = images[:256].cpu()  # for the thresholds
    nothing = torch.zeros(len(some), 5, dtype=torch.int64)
    source = ArrayImages(some, nothing[:, 0], nothing[:, 1:], nameless_classes(NUM_CLASSES))
    twin, policy = frozen(classifier, compile=True), DeterministicPolicy(agent)
    calibration = evaluate(twin, source, policy, batch_size=32)
    ours = Recognizer(twin, policy, calibration=calibration)
    ours.use(budget=case.budget)
    network_cost = encoder_cost(classifier.local_encoder, config.data.image_size, with_classifier=True)
    return Sides(classifier.local_encoder, network_cost, ours, images)


def runs_sides(folder: Path, options: argparse.Namespace) -> Sides:
    """A trained run on its own test images."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder of a run; pass one, or {', '.join(CASES)}")
    run = load_run(folder)
    if run.full_resolution is None or options.budget is None:
        raise ValueError(f"{folder}: pass --budget, and a run that has a full-resolution network")
    if options.device != run.config.device:
        raise ValueError(f"{folder} is a run on {run.config.device}; pass --device {run.config.device}")
    source = open_images(run.config, "test")
    images = source.fetch(torch.arange(min(options.images, len(source)))).images.to(options.device)
    encoder = run.full_resolution.encoder
    network_cost = encoder_cost(encoder, run.config.data.image_size, with_classifier=True)
    ours = load_recognizer(folder, budget=options.budget, compile=True)
    return Sides(encoder, network_cost, ours, images)


def varied_images(count: int, size: tuple[int, int], num_frames: int | None = None) -> Tensor:
    """(N, 3, H, W) uint8: smooth blotches with noise, so that random networks can tell them apart; likewise clips."""
    if num_frames is not None:
        clips: Tensor = varied_images(count * num_frames, size).unflatten(0, (count, num_frames))
        return clips
    generator = torch.Generator().manual_seed(0)
    blotches = torch.rand(count, 3, 6, 6, generator=generator)
    large = nn.functional.interpolate(blotches, size=size, mode="bilinear")
    noise = 0.2 * torch.rand(count, 3, *size, generator=generator)
    return ((large + noise) / 1.2 * 255).to(torch.uint8)


def compiled(encoder: Encoder, batch_size: int) -> Callable[[Tensor], Tensor]:
    """A network on whole images, with the same speed passes as the recogniser's."""
    encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
    encoder.trunk = fold_batch_norms(encoder.trunk).to(memory_format=torch.channels_last)
    fast = CompiledEncoder(encoder, batch_size)

    def run(images: Tensor) -> Tensor:
        return torch.cat([_labels(fast, batch) for batch in images.split(batch_size)])

    return run


@torch.inference_mode()
def _labels(encoder: CompiledEncoder, images: Tensor) -> Tensor:
    labels: Tensor = encoder.classifier(encoder.encode_pixels(images).pooled).argmax(dim=1)
    return labels


@torch.inference_mode()
def _encode(encoder: Encoder, patches: Tensor) -> object:
    return encoder.encode_pixels(patches) if isinstance(encoder, CompiledEncoder) else encoder(patches)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
