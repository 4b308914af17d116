"""Latency of one image at a time on one thread, with ONNX Runtime: the recogniser, weighted by its exits, against the
full-resolution network (Fig. 8).

Without a run: random weights, with exits that reduce the multiply-adds by the speed-up that the paper measured on a
phone. With a run: its own networks; writes the milliseconds up to each step to the run's `latency.json`, which
`gfnet plot` (and the report, when `gfnet train` is run again) weights by the exits of every budget.

python benchmarks/latency.py [RUN] [--json]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from inference import NUM_CLASSES

from agents.evaluation.threshold_search import shares_for_budget
from agents.policies.deterministic import DeterministicPolicy
from agents.recognition.onnx_export import export_full_resolution, export_onnx
from agents.recognition.onnx_runner import OnnxRecognizer
from agents.recognition.recognizer import Recognizer
from agents.runs.claim import locked
from agents.runs.config_files import load_config
from agents.runs.folder import RunFolder
from agents.runs.loaded import blank_agent, load_recognizer, load_run
from classifiers.data.source import nameless_classes
from classifiers.files import json_text, write_json
from classifiers.inference.frozen import frozen
from classifiers.networks.costs import encoder_cost
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from scripts.console import in_words

CASES = (
    ("mobilenetv3_large_100_128", 1.3, None),
    ("resnet50_96", 2.9, None),
    ("resnet50_96", 2.9, "conv1x1_32"),
)
"""Shipped configs, the speed-up that the paper measured on an iPhone XS Max, and a policy of Table 6 instead of the
config's: the first layer of ResNet-50's has 38 million weights, all of which are read for a single image."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="the folder of a run")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"{options.rounds} rounds; pass 1 or more")
    if options.run is not None:
        try:
            row = of_run(options.run, options.rounds)
            with locked(options.run):
                write_json(RunFolder(options.run).latency, row)
        except (OSError, ValueError) as error:
            parser.error(in_words(error))
        print(json_text(row) if options.json else row)
        return
    rows = [of_config(name, gain, extractor, options.rounds) for name, gain, extractor in CASES]
    if options.json:
        print(json_text(rows))
        return
    print(
        "| networks | multiply-adds, full / ours | ratio | ms, full | t=1, 2, ... | weighted | speed-up | the paper |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        steps = ", ".join(f"{ms:.1f}" for ms in row["cumulative_ms"])
        ratio = row["full_multiply_adds"] / row["multiply_adds"]
        print(
            f"| {row['name']} | {row['full_multiply_adds'] / 1e6:.0f} M / {row['multiply_adds'] / 1e6:.0f} M | "
            f"{ratio:.2f} | {row['full_resolution_ms']:.1f} | {steps} | {row['mean_ms']:.1f} | "
            f"**{row['full_resolution_ms'] / row['mean_ms']:.2f}** | {row['paper']} |"
        )


def of_config(name: str, speed_up: float, extractor: str | None, rounds: int) -> dict[str, Any]:
    """Random weights of a shipped config."""
    config = load_config(name, [f"stage2.policy_options.extractor={extractor}"] if extractor else [])
    torch.manual_seed(0)
    classifier = frozen(GlanceFocusClassifier(config.classifier, NUM_CLASSES).eval())
    agent = blank_agent(config, classifier, nameless_classes(NUM_CLASSES))
    recognizer = Recognizer(
        classifier,
        DeterministicPolicy(agent),
        image_size=config.data.image_size,
    )
    network = FullResolutionNetwork(build_encoder(config.classifier.encoder, NUM_CLASSES))
    measured = _measure(recognizer, network, rounds)
    cost = encoder_cost(network.encoder, config.data.image_size, with_classifier=True)
    costs = recognizer.cumulative_multiply_adds
    exits = shares_for_budget(costs, cost / speed_up)
    return {
        "name": f"{name}, {extractor}" if extractor else name,
        **measured,
        "full_multiply_adds": cost,
        "multiply_adds": float(exits @ costs),
        "mean_ms": float(exits @ np.array(measured["cumulative_ms"])),
        "paper": speed_up,
    }


def of_run(folder: Path, rounds: int) -> dict[str, Any]:
    """A run's own networks."""
    return _measure(load_recognizer(folder), load_run(folder).full_resolution, rounds)


def _measure(recognizer: Recognizer, network: FullResolutionNetwork | None, rounds: int) -> dict[str, Any]:
    assert recognizer.image_size is not None
    image = np.random.default_rng(0).integers(0, 256, (*recognizer.image_size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        export_onnx(recognizer, Path(name))
        ours = OnnxRecognizer(name, num_threads=1)
        steps = recognizer.classifier.spec.num_glimpses
        sides: list[Callable[[], object]] = []
        for stop in range(1, steps + 1):
            thresholds = np.array([np.inf] * (stop - 1) + [-np.inf] * (steps - stop))[:, None]  # of one patch size
            sides.append(lambda thresholds=thresholds: _stopping(ours, thresholds, image))  # type: ignore[misc]  # binds the loop variable
        if network is not None:
            path = export_full_resolution(network, recognizer.image_size, Path(name) / "full_resolution.onnx")
            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = settings.inter_op_num_threads = 1
            session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
            pixels = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
            sides.append(lambda: session.run(None, {"images": pixels}))
        times: list[list[float]] = [[] for _ in sides]
        for _ in range(rounds + 1):
            for taken, run in zip(times, sides, strict=True):
                started = time.perf_counter()
                run()
                taken.append(1e3 * (time.perf_counter() - started))
    medians = [statistics.median(taken[1:]) for taken in times]
    return {"cumulative_ms": medians[:steps], "full_resolution_ms": medians[steps] if network is not None else None}


def _stopping(recognizer: OnnxRecognizer, thresholds: np.ndarray, image: np.ndarray) -> object:
    recognizer.thresholds = thresholds
    return recognizer.predict(image)


if __name__ == "__main__":
    main()
