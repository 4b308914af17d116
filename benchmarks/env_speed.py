"""The overhead of the environment over its encoders, all measured alternately in one process.

    (a) the library's encoder, eager, on a batch of patches
    (b) the frozen encoder: batch normalisations folded, channels-last, compiled
    (c) a step of `GlanceFocusVectorEnv`, for several numbers of rows, divided by (b) at that batch size
    (d) one batch of stage II, rollout and PPO update, in units of T times (a)

In the last unit, the authors' code takes 1.36 for ResNet-50 and 1.13 for MobileNet-V3-Large.

python benchmarks/env_speed.py [NAME...] [--num-envs N...] [--rounds R] [--no-compile] [--json]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from endless_images import EndlessImages, noise_images
from torch import Tensor

from agents.algorithms.make_agent import make_agent
from agents.runs.config import RunConfig
from agents.runs.config_files import load_config
from classifiers.files import json_text
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import build_encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task


@dataclass(frozen=True)
class Case:
    """A network, its batch of stage II, and the time of the authors' code."""

    config: str
    num_envs: int
    num_classes: int
    authors: float | None
    options: dict[str, Any]


# the authors' stage II: the increment reward, one epoch of one batch
_ONE_EPOCH = {"n_epochs": 1}
CASES = {
    "resnet50": Case("resnet50_96", 32, 1000, 1.36, _ONE_EPOCH),
    "mobilenetv3": Case("mobilenetv3_large_100_96", 32, 1000, 1.13, _ONE_EPOCH),
    "embedded": Case("synthetic_signs", 256, 10, None, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help=f"which: {', '.join(CASES)}")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 32, 256], metavar="N")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in CASES]
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such network; pass names of {', '.join(CASES)}")
    if min(*options.num_envs, options.rounds) < 1:
        parser.error(f"N = {options.num_envs}, {options.rounds} rounds; pass 1 or more of each")
    rows = [measure(name, options) for name in options.names or CASES]
    if options.json:
        print(json_text(rows))
        return
    print("| network | what | images | ms | images/s | in units of |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        for line in row["lines"]:
            figures = f"{line['images']} | {line['ms']:.1f} | {line['images_per_s']:.0f} | {line['ratio']:.2f}"
            print(f"| {row['name']} | {line['what']} | {figures} {line['unit']} |")


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All measurements of one network."""
    case = CASES[name]
    config = load_config(case.config)
    torch.manual_seed(0)
    classifier = frozen(
        GlanceFocusClassifier(config.classifier, case.num_classes).eval(), compile=not options.no_compile
    )
    source = EndlessImages(noise_images(config.data.image_size, case.num_classes))
    eager = build_encoder(config.classifier.encoder, case.num_classes).eval()
    side = config.classifier.patch_size
    patches = {n: torch.randn(n, 3, side, side) for n in {*options.num_envs, case.num_envs}}
    sides: dict[str, tuple[int, Callable[[], object]]] = {}
    for n in options.num_envs:
        sides[f"b{n}"] = (n, lambda n=n: _encode(classifier.local_encoder, _channels_last(patches[n])))  # type: ignore[misc]  # binds the loop variable
        sides[f"c{n}"] = (n, _EnvStep(classifier, source, n))
    looks = config.classifier.num_glimpses
    sides["a"] = (looks * case.num_envs, lambda: [_encode(eager, patches[case.num_envs]) for _ in range(looks)])
    sides["d"] = (looks * case.num_envs, _stage2_batch(config, case, classifier, source))
    times = _interleaved(sides, options.rounds)
    units = {"a": "", "d": f"of {looks} x (a); the authors' code {case.authors or 'unknown'}"}
    lines = []
    for key in sorted(sides, key=lambda key: (key[0], sides[key][0])):
        images = sides[key][0]
        unit = f"b{images}" if key[0] == "c" else "a"
        scale = sides[unit][0] / images  # times per image are compared
        seconds = statistics.median(times[key])
        lines.append(
            {
                "what": _titles(key, images, looks),
                "key": key,
                "images": images,
                "ms": 1e3 * seconds,
                "images_per_s": images / seconds,
                "ratio": statistics.median(
                    scale * ours / its for ours, its in zip(times[key], times[unit], strict=True)
                ),
                "unit": units.get(key, "of (b)" if key[0] == "c" else "of (a), per image"),
            }
        )
    return {"name": name, "threads": torch.get_num_threads(), "authors": case.authors, "lines": lines}


def _titles(key: str, images: int, looks: int) -> str:
    names = {"a": "(a) eager encoder", "b": "(b) frozen encoder", "c": f"(c) env step, N = {images}"}
    return names.get(key[0], f"(d) stage II, {images // looks} episodes")


@torch.inference_mode()
def _encode(encoder: Any, patches: Tensor) -> Tensor:
    pooled: Tensor = encoder(patches).pooled
    return pooled


def _channels_last(patches: Tensor) -> Tensor:
    return patches.to(memory_format=torch.channels_last)


class _EnvStep:
    """A step of all rows."""

    def __init__(self, classifier: FrozenClassifier, source: EndlessImages, num_envs: int) -> None:
        self._env = GlanceFocusVectorEnv(
            Task(source, classifier), EpisodeSpec(reward="increment"), num_envs=num_envs, autoreset_mode="DISABLED"
        )
        self._env.action_space.seed(0)
        self._is_over = True

    def prepare(self) -> None:
        """Resets finished episodes, before the clock starts."""
        if self._is_over:
            self._env.reset(seed=0)

    def __call__(self) -> None:
        self._is_over = bool(self._env.step(self._env.action_space.sample())[2].all())


def _stage2_batch(
    config: RunConfig, case: Case, classifier: FrozenClassifier, source: EndlessImages
) -> Callable[[], object]:
    env = GlanceFocusVectorEnv(
        Task(source, classifier),
        EpisodeSpec(reward="increment"),
        num_envs=case.num_envs,
        autoreset_mode="SAME_STEP",
    )
    steps = config.classifier.num_glimpses - 1
    options = {**config.stage2.options, "n_steps": steps, **case.options}
    if case.options:
        options["batch_size"] = steps * case.num_envs
    agent = make_agent(config.stage2.agent, env, policy_kwargs=config.stage2.policy_options, seed=0, **options)

    def batch() -> object:
        return agent.learn(steps * case.num_envs, reset_num_timesteps=False)

    return batch


def _interleaved(sides: dict[str, tuple[int, Callable[[], object]]], rounds: int) -> dict[str, Sequence[float]]:
    """Seconds of every side, by round; the first round, which compiles, is dropped.

    Sides are measured right after one another, so that a drift of the machine's speed affects them alike.
    """
    times: dict[str, list[float]] = {key: [] for key in sides}
    for _ in range(rounds + 1):
        for key, (_, run) in sides.items():
            if isinstance(run, _EnvStep):
                run.prepare()
            started = time.perf_counter()
            run()
            times[key].append(time.perf_counter() - started)
    return {key: np.array(taken[1:]).tolist() for key, taken in times.items()}


if __name__ == "__main__":
    main()
