"""How far a run's savings hold against a full-resolution network that was trained as long as f_L, and longer.

f_L starts from the full-resolution network, the run's baseline, or from pretrained weights, and is shown the training
images again in stages I and III. Here the baseline is trained from its start for as many epochs as f_L had in all, and
on from there to multiples of that, each with a learning rate schedule of its own (warm restarts). Thresholds are then
found anew for its accuracy on the calibration images. With --augmented it is shown the images as stage I shows them to
f_L: shifted, flipped, zoomed, rotated, in other colors. --precision bfloat16 is faster on processors that have it.
Can be interrupted: each network is kept in RUN/saturated/ and continues after its last epoch. One that is finished is
taken as it is, whatever its precision; its name says which lengths it went through, such as 20-60 epochs.

python benchmarks/saturated_baseline.py RUN [--times 1 3] [--augmented] [--precision bfloat16]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from agents.evaluation.budgets import adaptive_figures
from agents.evaluation.record import load_record
from agents.evaluation.rollout import full_resolution_accuracy
from agents.runs.config import RunConfig
from agents.runs.config_files import load_run_config
from agents.runs.folder import RunFolder, read_metrics
from agents.runs.images import RunImages
from agents.runs.results import CALIBRATION_IMAGES
from agents.runs.stages import locked
from classifiers.checkpoints import load_full_resolution, save_full_resolution
from classifiers.files import write_json
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.training.fit_spec import PRECISIONS, FitSpec
from classifiers.training.stages import train_full_resolution
from scripts.console import PlainConsole, format_error
from scripts.progress import TerminalReporter

AUGMENTATION = ("shift_px", "flip", "zoom", "rotation", "color_jitter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run with an initialization of its own")
    parser.add_argument("--times", type=float, nargs="+", default=[1.0, 3.0], help="multiples of f_L's epochs")
    parser.add_argument("--augmented", action="store_true", help="with the augmentation of stage I")
    parser.add_argument("--precision", choices=PRECISIONS, help="of the baseline's training; by default, the run's")
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
            spec = baseline_spec(config, options.precision, is_augmented=options.augmented)
            lengths, start = list[int](), None
            for length in sorted({max(1, round(times * epochs)) for times in options.times}):
                further = spec.replace(epochs=length - sum(lengths[-1:]))
                lengths.append(length)
                name = f"full_resolution_{'-'.join(map(str, lengths))}{kind}.safetensors"
                path = options.run / "saturated" / name
                train_baseline(config, path, start, images, further, reporter)
                rows.append({"epochs": length, **baseline_figures(config, options.run, path, images, metrics)})
                start = path
            write_json(options.run / "saturated" / f"results{kind}.json", {"local_epochs": epochs, "rows": rows})
    except (OSError, ValueError) as error:
        parser.exit(1, f"{format_error(error)}\n")
    print("| epochs | full resolution | recognizer, as accurate in calibration | multiply-adds |\n|---|---|---|---|")
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


def baseline_spec(config: RunConfig, precision: str | None, *, is_augmented: bool) -> FitSpec:
    """How the baseline is trained: as the run did, or as f_G if the run took it pretrained."""
    assert config.initialization is not None and config.stage1 is not None
    full, low = config.initialization.full_resolution, config.initialization.low_resolution
    spec = low if not full.epochs and low.epochs else full
    shown = {name: getattr(config.stage1, name) for name in AUGMENTATION} if is_augmented else {}
    return spec.replace(precision=precision or spec.precision, **shown)


def train_baseline(
    config: RunConfig, path: Path, start: Path | None, images: RunImages, spec: FitSpec, reporter: TerminalReporter
) -> None:
    """Trains the network of the file `start`, or one from the run's own start, and writes it, unless it is there."""
    if path.is_file():
        return
    initialization, names = config.initialization, images("train").class_names
    assert initialization is not None
    torch.manual_seed(config.seed)
    if start is None:
        encoder = build_encoder(config.classifier.encoder, len(names), initialization.weights, names)
        network = FullResolutionNetwork(encoder, resize_mode=config.classifier.resize_mode)
    else:
        network = load_full_resolution(start)
    network.to(torch.device(config.device)).to(memory_format=torch.channels_last)
    checkpoint = path.with_suffix(".training.pt")
    train_full_resolution(
        network,
        images.training(config.seed),
        spec,
        seed=config.seed,
        checkpoint=checkpoint,
        on_progress=reporter.track(f"{path.stem}, {spec.epochs} epochs"),
    )
    save_full_resolution(path, network, config.classifier.encoder)
    checkpoint.unlink(missing_ok=True)


def baseline_figures(
    config: RunConfig, run: Path, path: Path, images: RunImages, metrics: dict[str, Any]
) -> dict[str, Any]:
    """The baseline's accuracy, and what the recognizer takes for the same."""
    network = load_full_resolution(path).to(config.device)
    test, there = images("test"), images.calibration("test")
    accuracies = (
        full_resolution_accuracy(network, there, max_images=CALIBRATION_IMAGES),
        full_resolution_accuracy(network, test),
    )
    calibration, record = (load_record(RunFolder(run).record(name)) for name in ("calibration", "learned"))
    cost = metrics["multiply_adds"]["full_resolution"]
    match = adaptive_figures(calibration, record, accuracies, cost)["match"]
    return {"accuracy": accuracies[1], "match": match}


if __name__ == "__main__":
    main()
