"""Whether image files slow down stage II: time per environment step with JPEG files, prefetched or decoded when needed,
compared with the same images in memory; in one process and in turn, with both rewards.

Stage II is timed as `gfnet train` runs it (`policy_env`, `new_agent`, `train_agent`), updates included. The files are
generated, as large as ImageNet's on average (500x375 pixels). Networks have random weights.

python benchmarks/data_speed.py [--config resnet50_96] [--rewards R...] [--num-envs 32] [--rounds 3] [--compile]
                                [--json]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from endless_images import COUNT, EndlessImages
from PIL import Image
from stage2_timing import seconds_per_step, with_few_envs
from torch import Tensor

from agents.runs.config import RunConfig
from agents.runs.config_files import load_config
from classifiers.data.folder import FolderImages, in_memory
from classifiers.data.source import Batch, ImageSource, SourceView
from classifiers.files import json_text
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.glance_focus import GlanceFocusClassifier
from gfnet_env.rewards import REWARDS

_FILES = 512
_SIZE = (375, 500)
_ROLLOUTS = 2  # that are timed of one training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="resnet50_96")
    parser.add_argument("--rewards", nargs="+", choices=REWARDS, default=list(REWARDS), metavar="R")
    parser.add_argument("--num-envs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="trainings on each source")
    parser.add_argument("--compile", action="store_true", help="compile the encoders")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if min(options.num_envs, options.rounds) < 1:
        parser.error(f"{options.num_envs} environments, {options.rounds} rounds; pass 1 or more of each")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        few = FolderImages.open(_pictures(Path(folder)), (224, 224), crop_pct=0.875)
        files = few.only(torch.arange(_FILES).repeat(COUNT // _FILES))
        sources: dict[str, ImageSource] = {
            "in memory": EndlessImages(in_memory(few), len(files)),
            "prefetched files": files,  # `policy_env` prefetches files
            "files decoded when needed": _Unexpected(files),
        }
        torch.manual_seed(0)
        spec = load_config(options.config).classifier
        classifier = frozen(GlanceFocusClassifier(spec, 2).eval(), compile=options.compile)
        decoding = _milliseconds_per_file(few)
        for reward in options.rewards:
            config = load_config(options.config, [f"stage2.episode.reward={reward}"])
            config = with_few_envs(config, options.num_envs)
            times = _milliseconds_per_step(classifier, config, sources, options.rounds)
            rows += [
                {"reward": reward, "images": name, "ms_per_step": ms, "of_in_memory": ms / times["in memory"]}
                for name, ms in times.items()
            ]
    if options.json:
        print(json_text({"decoding_ms": decoding, "rows": rows}))
        return
    print(f"One thread decodes a file in {decoding:.1f} ms; {torch.get_num_threads()} threads compute.")
    print("| reward | images | ms a step | of those in memory |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['reward']} | {row['images']} | {row['ms_per_step']:.2f} | {row['of_in_memory']:.2f} |")


class _Unexpected(SourceView[FolderImages]):
    """A folder's images without prefetching, which `policy_env` would add to a `FolderImages`."""

    @property
    def decodes_files(self) -> bool:
        return False

    def fetch(self, indices: Tensor) -> Batch:
        return self.source.fetch(indices)

    def for_epoch(self, epoch: int) -> _Unexpected:
        return _Unexpected(self.source.for_epoch(epoch))


def _pictures(root: Path) -> Path:
    """Smooth noise, whose files are about as large as photos'."""
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


def _milliseconds_per_step(
    classifier: FrozenClassifier, config: RunConfig, sources: dict[str, ImageSource], rounds: int
) -> dict[str, float]:
    """Medians over the rollouts; in every round an agent is trained on each source in turn."""
    times: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            times[name] += seconds_per_step(classifier, source, config, _ROLLOUTS)
    return {name: 1e3 * statistics.median(taken) for name, taken in times.items()}


if __name__ == "__main__":
    main()
