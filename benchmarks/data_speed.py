"""Whether decoding image files slows the environment down: steps per second with JPEG files, prefetched or decoded when
needed, compared with the same images in memory, alternating in one process.

The files are created by this script, as large as ImageNet's on average (500x375 pixels). Networks have random weights.

python benchmarks/data_speed.py [--encoder resnet50] [--num-envs 32] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from endless_images import COUNT, EndlessImages
from PIL import Image

from classifiers.data.folder import FolderImages, in_memory
from classifiers.data.prefetch import Prefetcher
from classifiers.data.source import ImageSource
from classifiers.files import json_text
from classifiers.inference.frozen import frozen
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task

_FILES = 512
_TIMES = COUNT // _FILES
_SIZE = (375, 500)


def _again_and_again(few: FolderImages) -> FolderImages:
    return dataclasses.replace(few, files=few.files * _TIMES, labels=few.labels.repeat(_TIMES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--num-envs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"{options.rounds} rounds; pass 1 or more")
    torch.manual_seed(0)
    spec = ClassifierSpec(encoder=options.encoder, patch_size=96, num_glimpses=5, hidden_size=1024)
    classifier = frozen(GlanceFocusClassifier(spec, 2).eval())
    with tempfile.TemporaryDirectory() as folder:
        few = FolderImages.open(_pictures(Path(folder)), (224, 224), crop_pct=0.875)
        files = _again_and_again(few)
        sources: dict[str, ImageSource] = {
            "in memory": EndlessImages(in_memory(few)),
            "files, decoded ahead": Prefetcher(files),
            "files, decoded when needed": files,
        }
        envs = {
            name: GlanceFocusVectorEnv(
                Task(source, classifier),
                EpisodeSpec(reward="increment"),
                num_envs=options.num_envs,
                autoreset_mode="SAME_STEP",
            )
            for name, source in sources.items()
        }
        decoding = _milliseconds_per_file(files)
        rates = _steps_per_second(envs, options.rounds)
    ratios = {name: rate / rates["in memory"] for name, rate in rates.items()}
    if options.json:
        print(json_text({"steps_per_s": rates, "of_in_memory": ratios, "decoding_ms": decoding}))
        return
    print(f"One thread decodes a file in {decoding:.1f} ms; {torch.get_num_threads()} threads compute.")
    print("| images | steps/s | of those in memory |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.1f} | {ratios[name]:.2f} |")


def _pictures(root: Path) -> Path:
    """Smooth noise, which takes about as many bytes as a photo."""
    rng = np.random.default_rng(0)
    for index in range(_FILES):
        folder = root / ("left" if index % 2 else "right")
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (_SIZE[0] // 3, _SIZE[1] // 3, 3), dtype=np.uint8))
        coarse.resize(_SIZE[::-1], Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)
    return root


def _milliseconds_per_file(files: FolderImages) -> float:
    started = time.perf_counter()
    for index in range(64):
        files.decode(index)
    return 1e3 * (time.perf_counter() - started) / 64


def _steps_per_second(envs: dict[str, GlanceFocusVectorEnv], rounds: int) -> dict[str, float]:
    """Of complete episodes, including the glance of the next one; the first round is dropped."""
    times: dict[str, list[float]] = {name: [] for name in envs}
    for env in envs.values():
        env.reset(seed=0)
    steps = 4 * 2
    for _ in range(rounds + 1):
        for name, env in envs.items():
            started = time.perf_counter()
            for _ in range(steps):
                env.step(np.zeros((env.num_envs, 2), np.float32))
            times[name].append(time.perf_counter() - started)
    return {name: steps * envs[name].num_envs / statistics.median(taken[1:]) for name, taken in times.items()}


if __name__ == "__main__":
    main()
