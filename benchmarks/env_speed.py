"""What stage II costs beyond the encoders: time per environment step of what `gfnet train` does, with both rewards.

Stage II is timed as the command runs it (`policy_env`, `new_agent`, `train_agent`), with rollouts, updates and glances
at new images. After each rollout the encoders alone run on as many glances and patches, in batches of the same size.
The time is compared with these bare forwards: of the encoders as stage II uses them (frozen, compiled or not), and of
the encoder as its library makes it. The authors' code takes 1.36 times the latter for ResNet-50 and 1.13 times for
MobileNetV3-Large, with the increment reward.

python benchmarks/env_speed.py [NAME...] [--rewards R...] [--num-envs N] [--rounds R] [--compile both|yes|no] [--json]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from endless_images import COUNT, EndlessImages, noise_images
from stage2_timing import seconds_per_step, with_few_envs
from torch import Tensor

from agents.runs.config import RunConfig
from agents.runs.config_files import load_config
from classifiers.files import json_text
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import Encoder, build_encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from gfnet_env.rewards import REWARDS

CONFIGS = {
    "resnet50": "resnet50_96",
    "mobilenetv3": "mobilenetv3_large_100_96",
    "small_resnet": "synthetic_signs",
    "tsm8_small_resnet": "synthetic_gestures",
}
_COMPILE = {"both": (False, True), "yes": (True,), "no": (False,)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help=f"which: {', '.join(CONFIGS)}")
    parser.add_argument("--rewards", nargs="+", choices=REWARDS, default=list(REWARDS), metavar="R")
    parser.add_argument("--num-envs", type=int, default=32, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, help="rollouts that are timed")
    parser.add_argument("--compile", choices=_COMPILE, default="both")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in CONFIGS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such network; pass names of {', '.join(CONFIGS)}")
    if min(options.num_envs, options.rounds) < 1:
        parser.error(f"N = {options.num_envs}, {options.rounds} rounds; pass 1 or more of each")
    rows = [
        measure(name, reward, is_compiled, options.num_envs, options.rounds)
        for name in options.names or CONFIGS
        for is_compiled in _COMPILE[options.compile]
        for reward in options.rewards
    ]
    if options.json:
        print(json_text(rows))
        return
    print("| network | reward | encoders | ms a step | of the bare forwards | of the library's |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        how = "compiled" if row["compile"] else "frozen"
        figures = f"{row['ms_per_step']:.2f} | {row['of_bare']:.2f} | {row['of_library']:.2f}"
        print(f"| {row['network']} | {row['reward']} | {how} | {figures} |")


def measure(name: str, reward: str, is_compiled: bool, num_envs: int, rounds: int) -> dict[str, Any]:
    """Times one network with one reward."""
    config = with_few_envs(load_config(CONFIGS[name], [f"stage2.episode.reward={reward}"]), num_envs)
    torch.manual_seed(0)
    names, frames = config.data.class_names(), config.classifier.num_frames
    num_classes = 1000 if names is None else len(names)
    classifier = frozen(GlanceFocusClassifier(config.classifier, num_classes).eval(), compile=is_compiled)
    few = noise_images(config.data.image_size, num_classes, num_frames=frames)
    images = EndlessImages(few, config.data.num_train or COUNT)
    library = build_encoder(config.classifier.encoder, num_classes).eval()
    forwards = {"bare": _Forwards(classifier, config, num_envs), "library": _Forwards(library, config, num_envs)}
    seconds: dict[str, list[float]] = {kind: [] for kind in forwards}

    def alone(steps: int, episodes: int) -> None:
        for kind, run in forwards.items():
            started = time.perf_counter()
            run(steps, episodes)
            seconds[kind].append((time.perf_counter() - started) / (steps * num_envs))

    stage2 = seconds_per_step(classifier, images, config, rounds, alone)
    return {
        "network": name,
        "reward": reward,
        "compile": is_compiled,
        "ms_per_step": 1e3 * statistics.median(stage2),
        "of_bare": _ratio(stage2, seconds["bare"][1:]),
        "of_library": _ratio(stage2, seconds["library"][1:]),
    }


class _Forwards:
    """The encoders alone, on random pixels: patches of all rows at every step, and glances of new episodes."""

    def __init__(self, networks: FrozenClassifier | Encoder, config: RunConfig, num_envs: int) -> None:
        if isinstance(networks, FrozenClassifier):
            self._local, self._global = networks.local_encoder, networks.global_encoder
        else:
            self._local = self._global = networks
        episode = config.stage2.episode
        samples = episode.reward_samples if episode.reward == "contrastive" else 0
        self._patches = self._pixels((1 + samples) * num_envs, config.classifier.patch_size)
        self._glances = self._pixels(num_envs, config.classifier.glance_side)

    def _pixels(self, count: int, side: int) -> Tensor:
        shape = self._local.blank((side, side)).shape[1:]
        return torch.randint(0, 256, (count, *shape), dtype=torch.uint8)

    @torch.inference_mode()
    def __call__(self, steps: int, episodes: int) -> None:
        for _ in range(steps):
            self._local.encode_pixels(self._patches)
        for start in range(0, episodes, len(self._glances)):
            self._global.encode_pixels(self._glances[: episodes - start])


def _ratio(times: list[float], of: list[float]) -> float:
    """Median of the ratios of neighbours in time, which a machine whose speed drifts slows alike."""
    return statistics.median(time / other for time, other in zip(times, of, strict=True))


if __name__ == "__main__":
    main()
