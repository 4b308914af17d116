"""How much of the saved multiply-adds becomes saved time (Table 1, Fig. 8).

    python benchmarks/inference.py throughput [CONFIG|RUN ...] [--budget 12e6] [--images 640] [--device cuda]
    python benchmarks/inference.py latency [RUN] [--engine openvino]

`--rows docs/speed.csv` keeps what is measured; `python benchmarks/speed.py page` makes the tables of docs/speed.md from
that file.

`throughput` compares images per second (on a CPU, of processor time) of the full-resolution network and of the
recognizer, both frozen and compiled, in turn. The paper's networks have random weights and its average budgets; a run
has its own networks, its test images and `--budget`. "Realized" is the ratio of the speeds divided by the ratio of the
multiply-adds; "encoders" is the same for the encoder on patches beside the network on whole images.

`latency` takes one image at a time on one thread, in CPU milliseconds, with ONNX Runtime or OpenVINO. The paper's
networks have exits that reduce the multiply-adds by the speed-up that it measured on a phone. A run's milliseconds up
to each step are written to its `latency.json`, which `gfnet plot` weights by the exits of every budget.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measured import Measured
from torch import Tensor, nn

from agents.evaluation.rollout import evaluate
from agents.evaluation.threshold_search import shares_for_budget
from agents.policies.deterministic import DeterministicPolicy
from agents.recognition.onnx_export import export_full_resolution, export_onnx
from agents.recognition.onnx_runner import ENGINES, Graph, OnnxRecognizer
from agents.recognition.recognizer import Recognizer
from agents.runs.config_files import load_config
from agents.runs.folder import RunFolder
from agents.runs.images import open_images
from agents.runs.run import blank_agent, load_recognizer, load_run
from agents.runs.stages import locked
from classifiers.data.source import ArrayImages, default_class_names
from classifiers.files import write_json
from classifiers.inference.compiled import CompiledEncoder
from classifiers.inference.frozen import frozen
from classifiers.networks.costs import encoder_cost
from classifiers.networks.encoders import Encoder, build_encoder
from classifiers.networks.folding import fold_batch_norms
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier

CLASSES = default_class_names(1000)
BUDGETS = {"resnet50_96": (2.16e9, 0.98), "densenet121_96": (1.09e9, 0.79), "densenet169_96": (1.83e9, 0.81)}
"""The average budgets of Table 1, and the share of the multiply-add ratio that the paper's code realises on a GPU."""

PHONE = (
    ("mobilenetv3_large_100_128", 1.3, None),
    ("resnet50_96", 2.9, None),
    ("resnet50_96", 2.9, "conv1x1_32"),
)
"""Configs, the speed-up that the paper measured on an iPhone XS Max, and a policy of Table 6 instead of the config's:
the first layer of ResNet-50's has 38 million weights, all of which are read for a single image."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    throughput = parts.add_parser("throughput")
    throughput.add_argument(
        "names", nargs="*", default=list(BUDGETS), metavar="NAME", help=f"{', '.join(BUDGETS)}, or runs"
    )
    throughput.add_argument("--budget", type=float, help="of runs: average multiply-adds")
    throughput.add_argument("--images", type=int, default=640, help="in each round")
    throughput.add_argument("--rounds", type=int, default=5)
    throughput.add_argument("--batch-size", type=int, default=32, help="of the full-resolution network")
    throughput.add_argument("--device", default="cpu")
    latency = parts.add_parser("latency")
    latency.add_argument("run", type=Path, nargs="?", help="the folder of a run")
    latency.add_argument("--rounds", type=int, default=30)
    latency.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    for part in (throughput, latency):
        part.add_argument("--rows", type=Path, metavar="FILE", help="keep the rows in this file")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.part == "throughput":
        throughput_table(options)
    elif options.run is not None:
        row = milliseconds(load_recognizer(options.run), load_run(options.run).full_resolution, options)
        with locked(options.run):
            write_json(RunFolder(options.run).latency, row)
        print(row)
    else:
        latency_table(options)


def throughput_table(options: argparse.Namespace) -> None:
    measured = Measured("throughput", options.rows, options.device)
    for name in options.names:
        if name in BUDGETS:
            ours, encoder, images = papers_sides(name, options)
        else:
            ours, encoder, images = runs_sides(Path(name), options)
        local, side = ours.classifier.local_encoder, ours.classifier.spec.patch_size
        patches = varied_images(ours.batch_size, (side, side), local.num_frames).to(options.device)
        network = compiled(encoder, options.batch_size)
        batch = images[: options.batch_size]
        runs: list[Callable[[], object]] = [
            partial(ours.predict, images),
            partial(network, batch),
            partial(encode, local, patches),
        ]
        clock = time.process_time if options.device == "cpu" else time.perf_counter
        rounds = [[seconds(run, clock) for run in runs] for _ in range(options.rounds + 1)][1:]  # the first compiles
        mine, full, by_patch = (np.array(rounds) / [len(images), len(batch), len(patches)]).T
        cost = encoder_cost(encoder, (images.shape[-2], images.shape[-1]), with_classifier=True)
        patch_cost = encoder_cost(local, (side, side), with_classifier=False)
        spent = float(ours.predict(images).multiply_adds.mean())
        speed_up, saved = float(np.median(full / mine)), cost / spent
        saving = f"{cost / 1e6:.1f} M to {spent / 1e6:.1f} M"
        cells = {"times fewer": saved, "images/s, full": 1 / np.median(full), "images/s, ours": 1 / np.median(mine)}
        cells |= {"times as fast": speed_up, "realized": speed_up / saved}
        cells["encoders"] = np.median(full / by_patch) * patch_cost / cost
        figures = {column: float(value) for column, value in cells.items()}
        figures["the paper"] = BUDGETS[name][1] if name in BUDGETS else math.nan
        measured.add(network=name, **{"multiply-adds": saving}, **figures)


def papers_sides(name: str, options: argparse.Namespace) -> tuple[Recognizer, Encoder, Tensor]:
    """A network of the paper with random weights, on random images."""
    config = load_config(name)
    classifier = GlanceFocusClassifier(config.classifier, len(CLASSES)).eval().to(options.device)
    images = varied_images(options.images, config.data.image_size).to(options.device)
    agent = blank_agent(config, frozen(classifier), CLASSES)
    agent.policy.to(options.device)
    some = images[:256].cpu()  # for the thresholds
    nothing = torch.zeros(len(some), 5, dtype=torch.int64)
    source = ArrayImages(some, nothing[:, 0], nothing[:, None, 1:], CLASSES)
    twin, policy = frozen(classifier, compile=True), DeterministicPolicy(agent)
    ours = Recognizer(twin, policy, calibration=evaluate(twin, source, policy, batch_size=32))
    ours.use(budget=BUDGETS[name][0])
    return ours, classifier.local_encoder, images


def runs_sides(folder: Path, options: argparse.Namespace) -> tuple[Recognizer, Encoder, Tensor]:
    """A trained run on its own test images."""
    run = load_run(folder)
    if run.full_resolution is None or options.budget is None:
        raise SystemExit(f"{folder}: pass --budget, and a run that has a full-resolution network")
    source = open_images(run.config, "test")
    images = source.fetch(torch.arange(min(options.images, len(source)))).images.to(options.device)
    return load_recognizer(folder, budget=options.budget, compile=True), run.full_resolution.encoder, images


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
    """A network on whole images, with the same speed passes as the recognizer's."""
    encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
    encoder.trunk = fold_batch_norms(encoder.trunk).to(memory_format=torch.channels_last)
    fast = CompiledEncoder(encoder, batch_size)

    @torch.inference_mode()
    def labels(images: Tensor) -> Tensor:
        found: Tensor = fast.classifier(fast.encode_pixels(images).pooled).argmax(dim=1)
        return found

    return labels


@torch.inference_mode()
def encode(encoder: Encoder, patches: Tensor) -> object:
    return encoder.encode_pixels(patches)


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started


def latency_table(options: argparse.Namespace) -> None:
    measured = Measured("latency", options.rows)
    for name, speed_up, extractor in PHONE:
        config = load_config(name, [f"stage2.policy_options.extractor={extractor}"] if extractor else [])
        classifier = frozen(GlanceFocusClassifier(config.classifier, len(CLASSES)).eval())
        policy = DeterministicPolicy(blank_agent(config, classifier, CLASSES))
        recognizer = Recognizer(classifier, policy, image_size=config.data.image_size)
        network = FullResolutionNetwork(build_encoder(config.classifier.encoder, len(CLASSES)))
        found = milliseconds(recognizer, network, options)
        cost = encoder_cost(network.encoder, config.data.image_size, with_classifier=True)
        exits = shares_for_budget(recognizer.cumulative_multiply_adds, cost / speed_up)
        full, mean = found["full_resolution_ms"], float(exits @ np.array(found["cumulative_ms"]))
        name = f"{name}, {extractor}" if extractor else name
        cells = {"full resolution, ms": full, "t=1, 2, ...": ", ".join(f"{ms:.1f}" for ms in found["cumulative_ms"])}
        cells |= {"weighted, ms": mean, "times as fast": full / mean, "the paper": speed_up}
        measured.add(networks=name, engine=options.engine, **cells)


def milliseconds(
    recognizer: Recognizer, network: FullResolutionNetwork | None, options: argparse.Namespace
) -> dict[str, Any]:
    """CPU time of one image up to each step and by the full-resolution network, medians over the rounds."""
    assert recognizer.image_size is not None
    image = np.random.default_rng(0).integers(0, 256, (*recognizer.image_size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        export_onnx(recognizer, Path(name))
        ours = OnnxRecognizer(name, num_threads=1, engine=options.engine)
        steps = recognizer.classifier.spec.num_glimpses

        def stop_at(step: int) -> None:
            ours.thresholds = np.array([np.inf] * (step - 1) + [-np.inf] * (steps - step))[:, None]
            ours.predict(image)

        sides: list[Callable[[], object]] = [partial(stop_at, step) for step in range(1, steps + 1)]
        if network is not None:
            path = export_full_resolution(network, recognizer.image_size, Path(name) / "full_resolution.onnx")
            graph, pixels = Graph(path, options.engine, 1), np.ascontiguousarray(image.transpose(2, 0, 1)[None])
            sides.append(partial(graph, images=pixels))
        times = [[1e3 * seconds(run, time.process_time) for run in sides] for _ in range(options.rounds + 1)][1:]
    medians = [statistics.median(taken) for taken in zip(*times, strict=True)]
    return {"cumulative_ms": medians[:steps], "full_resolution_ms": medians[steps] if network is not None else None}


if __name__ == "__main__":
    main()
