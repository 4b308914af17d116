"""How far a run's savings hold against a full-resolution network that was trained as long as f_L, and longer.

f_L starts from the full-resolution network, the run's baseline, or from pretrained weights, and is shown the training
images again in stages I and III. Here the baseline is trained from its start for as many epochs as f_L had in all, and
for multiples of that. Thresholds are then found anew for its accuracy on the calibration images. With
--augmented it is shown the images as stage I shows them to f_L: shifted, flipped, zoomed, rotated, in other colours.
Can be interrupted: each network is kept in RUN/saturated/ and continues after its last epoch.

python benchmarks/saturated_baseline.py RUN [--times 1 3] [--augmented]
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch

from agents.evaluation.budgets import adaptive_figures
from agents.evaluation.rollout import full_resolution_accuracy
from agents.runs.claim import locked
from agents.runs.config import RunConfig
from agents.runs.config_files import load_run_config
from agents.runs.fingerprint import load_run_record
from agents.runs.images import RunImages
from agents.runs.metrics_file import read_metrics
from agents.runs.results import CALIBRATION_IMAGES
from classifiers.checkpoints import load_full_resolution, save_full_resolution
from classifiers.files import write_json
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.training.fit_spec import FitSpec
from classifiers.training.stages import train_full_resolution
from scripts.console import PlainConsole, in_words
from scripts.progress import TerminalReporter

AUGMENTATION = ("shift_px", "flip", "zoom", "rotation", "color_jitter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run with an initialisation of its own")
    parser.add_argument("--times", type=float, nargs="+", default=[1.0, 3.0], help="multiples of f_L's epochs")
    parser.add_argument("--augmented", action="store_true", help="with the augmentation of stage I")
    options = parser.parse_args()
    config, metrics = load_run_config(options.run), read_metrics(options.run)
    if config.initialization is None or config.stage1 is None:
        parser.error(f"{options.run} took its networks from start; pass the run that trained them")
    if min(options.times) <= 0:
        parser.error(f"--times {options.times}; pass numbers above 0")
    own, epochs = config.initialization.full_resolution.epochs, local_epochs(config)
    print(f"epochs of the training images: {own} in the run's baseline, {epochs} in f_L")
    rows = [{"epochs": own, "accuracy": metrics["full_resolution_accuracy"], "match": metrics["adaptive"]["match"]}]
    kind = "_augmented" if options.augmented else ""
    try:
        with locked(options.run), TerminalReporter(PlainConsole(stderr=True), quiet=False) as reporter:
            images = RunImages(config, reporter)
            for times in options.times:
                spec = baseline_spec(config, max(1, round(times * epochs)), is_augmented=options.augmented)
                path = options.run / "saturated" / f"full_resolution_{spec.epochs}{kind}.safetensors"
                rows.append(saturated(config, options.run, path, images, spec, metrics, reporter))
            write_json(options.run / "saturated" / f"results{kind}.json", {"local_epochs": epochs, "rows": rows})
    except (OSError, ValueError) as error:
        parser.exit(1, f"{in_words(error)}\n")
    print("| epochs | full resolution | recogniser, as accurate in calibration | multiply-adds |\n|---|---|---|---|")
    for row in rows:
        match = row["match"]
        found = "none | " if match is None else f"{match['accuracy']:.4f} | {match['times_fewer']:.1f} times fewer"
        print(f"| {row['epochs']} | {row['accuracy']:.4f} | {found} |")


def local_epochs(config: RunConfig) -> int:
    """How often f_L was shown every training image, from the baseline's training to the last stage III."""
    assert config.initialization is not None and config.stage1 is not None
    trained = [config.stage1, *[config.stage3] * config.rounds]
    if config.initialization.networks_from != "weights":
        trained.append(config.initialization.full_resolution)
    return sum(spec.epochs for spec in trained if spec.lr > 0)


def baseline_spec(config: RunConfig, epochs: int, *, is_augmented: bool) -> FitSpec:
    """How the baseline is trained: as the run did, or as f_G if the run took it pretrained, but for so many epochs."""
    assert config.initialization is not None and config.stage1 is not None
    full, low = config.initialization.full_resolution, config.initialization.low_resolution
    spec = low if not full.epochs and low.epochs else full
    if is_augmented:
        shown = {name: getattr(config.stage1, name) for name in AUGMENTATION}
        spec = dataclasses.replace(spec, **shown)
    return dataclasses.replace(spec, epochs=epochs)


def saturated(
    config: RunConfig,
    run: Path,
    path: Path,
    images: RunImages,
    spec: FitSpec,
    metrics: dict[str, Any],
    reporter: TerminalReporter,
) -> dict[str, Any]:
    """The baseline trained so, and the thresholds that are as accurate."""
    initialization, device = config.initialization, torch.device(config.device)
    assert initialization is not None
    if not path.is_file():
        torch.manual_seed(config.seed)
        names = images("train").class_names
        encoder = build_encoder(config.classifier.encoder, len(names), initialization.weights, names)
        network = FullResolutionNetwork(encoder, resize_mode=config.classifier.resize_mode).to(device)
        checkpoint = path.with_suffix(".training.pt")
        train_full_resolution(
            network,
            images.training(config.seed),
            spec,
            seed=config.seed,
            checkpoint=checkpoint,
            on_progress=reporter.track(f"full-resolution network, {spec.epochs} epochs"),
        )
        save_full_resolution(path, network, config.classifier.encoder)
        checkpoint.unlink(missing_ok=True)
    network = load_full_resolution(path).to(device)
    test, there = images("test"), images.calibration("test")
    accuracies = (
        full_resolution_accuracy(network, there, max_images=CALIBRATION_IMAGES),
        full_resolution_accuracy(network, test),
    )
    calibration, record = (load_run_record(config, run, name) for name in ("calibration", "learned"))
    cost = metrics["multiply_adds"]["full_resolution"]
    return {
        "epochs": spec.epochs,
        "accuracy": accuracies[1],
        "match": adaptive_figures(calibration, record, accuracies, cost)["match"],
    }


if __name__ == "__main__":
    main()
