"""What training on ImageNet costs: `python benchmarks/imagenet_costs.py [CONFIG ...]`.

Opening a tree of 1,000 classes and 200,000 (empty) files; decoding a photo of 500x375 pixels on one core, to the centre
crop and to a random crop; and for each config the memory that one image of a training step holds for the backward pass,
counted by PyTorch, and the time of a step on one core. Random weights.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from agents.runs.config_files import load_config
from classifiers.data.folder import FolderImages
from classifiers.data.random_crops import RandomCrops
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.training.stages import random_policy, sequence_loss
from gfnet_env.tasks import SamplePhotos

CLASSES, FILES_PER_CLASS = 1000, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="*", default=["resnet50_96"])
    parser.add_argument("--images", type=int, default=4, help="in a step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        opening(Path(folder))
        decoding(Path(folder))
    print("| config | stage I: MB an image | s an image | low resolution: MB an image | s an image |")
    print("|---|---|---|---|---|")
    for name in options.configs:
        print(row(name, options.images), flush=True)


def opening(folder: Path) -> None:
    for label in range(CLASSES):
        inside = folder / "empty" / f"n{label:08d}"
        inside.mkdir(parents=True)
        for index in range(FILES_PER_CLASS):
            os.close(os.open(inside / f"n{label:08d}_{index}.JPEG", os.O_CREAT))
    started = time.perf_counter()
    files = FolderImages.open(folder / "empty", (224, 224))
    seconds = time.perf_counter() - started
    paths = files.files
    held = sum(tensor.untyped_storage().nbytes() for tensor in (paths.text, paths.starts, files.labels))
    print(f"opening {len(files):,} files: {seconds:.2f} s, {held / 1e6:.1f} MB held")


def decoding(folder: Path) -> None:
    photos = SamplePhotos(height=375, width=500).open("train")
    for index in range(len(photos)):
        (folder / "photos" / str(index % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photos.decode(index)).save(folder / "photos" / str(index % 2) / f"{index}.jpg", quality=90)
    files = FolderImages.open(folder / "photos", (224, 224), crop_pct=0.875)
    crops = RandomCrops(files, (0.08, 1.0))
    for name, decode in (("centre crop", files.decode), ("random crop", crops.decode)):
        seconds = _seconds(functools.partial(_decode_all, decode, len(files)), 5)
        print(f"decoding a 500x375 JPEG to 224x224, {name}: {1e3 * seconds / len(files):.1f} ms")


def _decode_all(decode: Callable[[int], object], count: int) -> None:
    for index in range(count):
        decode(index)


def row(name: str, count: int) -> str:
    config = load_config(name, ["data.root=IMAGENET"])
    images = torch.randint(0, 256, (count, 3, *config.data.image_size), dtype=torch.uint8)
    labels = torch.randint(0, 1000, (count,))
    classifier = GlanceFocusClassifier(config.classifier, 1000)
    side = config.classifier.glance_side
    network = FullResolutionNetwork(build_encoder(config.classifier.encoder, 1000), (side, side))
    steps: list[tuple[nn.Module, Callable[[], torch.Tensor]]] = [
        (classifier, lambda: sequence_loss(classifier(images, random_policy(torch.Generator())), labels, 1.0)),
        (network, lambda: nn.functional.cross_entropy(network(images), labels)),
    ]
    cells = []
    for model, loss in steps:
        model.train()
        cells += [
            f"{_held(model, loss) / count / 1e6:.0f}",
            f"{_seconds(functools.partial(_backward, loss), 1) / count:.2f}",
        ]
    return f"| {name} | {' | '.join(cells)} |"


def _backward(loss: Callable[[], torch.Tensor]) -> None:
    loss().backward()


def _held(model: nn.Module, loss: Callable[[], torch.Tensor]) -> int:
    """Bytes of the tensors kept for the backward pass, without the weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss()
    found = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)
    value.backward()
    return found


def _seconds(work: Callable[[], object], rounds: int) -> float:
    work()
    started = time.perf_counter()
    for _ in range(rounds):
        work()
    return (time.perf_counter() - started) / rounds


if __name__ == "__main__":
    main()
