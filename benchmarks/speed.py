"""What training and thresholds take: the tables of docs/speed.md, docs/imagenet.md and docs/stopping.md.

    python benchmarks/speed.py steps [--task ID ...] [--num-envs 1 16 64 256] [--array numpy torch] [--device cpu]
    python benchmarks/speed.py shares [AGENT ...] [--task ID] [--steps 6000]
    python benchmarks/speed.py stage2 [CONFIG ...] [--num-envs 32] [--rounds 5] [--compile]
    python benchmarks/speed.py files [CONFIG ...]
    python benchmarks/speed.py training [CONFIG ...]
    python benchmarks/speed.py thresholds [--images 50000] [--genetic]
    python benchmarks/speed.py page

`--rows docs/speed.csv` keeps what the first three measure, and `page` makes the tables of docs/speed.md from that file.

`steps` times the environment alone, at random places, in one thread; with `--beside CircleSquare-v0`, also an id of
ap_gym, if that is installed. `shares` tells what the environment, the policy and the updates take of an agent's
training. `stage2` times an environment step of stage II as
`gfnet train` runs it: rollouts, updates and glances at new images, on images of noise. After each rollout the encoders
run alone on as many glances and patches, frozen and as their library makes them; ratios compare neighbors in time.
`files` compares JPEG files with the same images in memory. `training` counts what one image of a training step holds
for the backward pass. `thresholds` fits thresholds of several patch sizes on generated records.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.utils.performance import benchmark_step
from measured import PAGE, ROWS, Measured, page, read
from PIL import Image
from torch import Tensor, nn

import agents
from agents.algorithms.stage2 import train_agent
from agents.evaluation.accuracy_bound import AccuracyBound
from agents.evaluation.coordinate_ascent import CoordinateAscent
from agents.evaluation.stopping import HistoryTable
from agents.evaluation.threshold_search import genetic_thresholds
from agents.runs.config import RunConfig
from agents.runs.config_files import load_config
from agents.runs.run import new_agent, policy_env
from classifiers.data.folder import FolderImages
from classifiers.data.source import ArrayImages, Batch, ImageSource, SourceView, default_class_names, in_memory
from classifiers.files import write_text
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import Encoder, build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.size_histories import size_histories
from classifiers.training.stages import random_policy, sequence_loss
from gfnet_env.rewards import REWARDS

IMAGENET_IMAGES = 1_281_167


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    tables = {
        "steps": steps_table,
        "shares": shares_table,
        "stage2": stage2_table,
        "files": files_table,
        "training": training_table,
        "thresholds": thresholds_table,
        "page": write_page,
    }
    parts.add_parser("page")
    steps, shares = parts.add_parser("steps"), parts.add_parser("shares")
    steps.add_argument("--task", nargs="+", default=["GFNet-SyntheticSigns-v0"], metavar="ID")
    steps.add_argument(
        "--scenes", type=int, default=500, help="of a drawn task; their glances are known before the timing"
    )
    steps.add_argument("--beside", nargs="+", default=[], metavar="ID", help="of ap_gym")
    shares.add_argument("agents", nargs="*", default=["ppo", "ppo_gru", "ppo_grid", "sac", "dqn"], metavar="AGENT")
    shares.add_argument("--task", default="GFNet-SyntheticSigns-v0", metavar="ID")
    shares.add_argument("--steps", type=int, default=6000, help="that are timed, after as many others")
    steps.add_argument("--num-envs", type=int, nargs="+", default=[1, 16, 64, 256])
    steps.add_argument("--array", nargs="+", choices=("numpy", "torch"), default=["numpy"])
    steps.add_argument("--device", default="cpu")
    steps.add_argument("--rewards", nargs="+", choices=REWARDS, default=list(REWARDS))
    steps.add_argument("--rounds", type=int, default=5, help="of about a second each")
    for name, default in (
        ("stage2", ["resnet50_96", "mobilenetv3_large_100_96", "synthetic_signs"]),
        ("files", ["resnet50_96"]),
    ):
        part = parts.add_parser(name)
        part.add_argument("configs", nargs="*", default=default, metavar="CONFIG")
        part.add_argument("--rewards", nargs="+", choices=REWARDS, default=list(REWARDS))
        part.add_argument("--num-envs", type=int, default=32)
        part.add_argument("--rounds", type=int, default=5, help="rollouts that are timed")
        part.add_argument("--compile", action="store_true", help="compile the encoders")
    for kept in ("steps", "shares", "stage2"):
        parts.choices[kept].add_argument("--rows", type=Path, metavar="FILE", help="keep the rows in this file")
    training = parts.add_parser("training")
    training.add_argument("configs", nargs="*", default=["resnet50_96"], metavar="CONFIG")
    training.add_argument("--images", type=int, default=4, help="in a step")
    thresholds = parts.add_parser("thresholds")
    thresholds.add_argument("--images", type=int, default=50_000)
    thresholds.add_argument("--genetic", action="store_true", help="also the genetic algorithm, for 4 of the budgets")
    options = parser.parse_args()
    tables[options.part](options)


def write_page(options: argparse.Namespace) -> None:
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8"), read(ROWS)))


def steps_table(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    measured = Measured("steps", options.rows, options.device)
    for task, reward in itertools.product(options.task, options.rewards):
        rules: dict[str, Any] = {"reward": reward, "device": options.device, "num_scenes": options.scenes}
        rate = partial(add_rate, measured, task, reward, rounds=options.rounds)
        rate("`gym.make`", single_steps(gymnasium.make(task, **rules)), rows=1)
        add_gymnasiums_rate(measured, task, reward, gymnasium.make(task, **rules), options.rounds)
        for array, num_envs in itertools.product(options.array, options.num_envs):
            envs = gymnasium.make_vec(task, num_envs=num_envs, autoreset_mode="SAME_STEP", array=array, **rules)
            rate(f"{num_envs}, {array}", vector_steps(envs, array, options.device), rows=num_envs)
    for task, num_envs in itertools.product(options.beside, options.num_envs):
        envs = importlib.import_module("ap_gym").make_vec(task, num_envs=num_envs)
        add_rate(measured, f"ap_gym, {task}", "", f"{num_envs}, numpy", sampled_steps(envs), num_envs, options.rounds)


def add_rate(
    measured: Measured, task: str, reward: str, name: str, step: Callable[[], object], rows: int, rounds: int
) -> None:
    """Times one kind of environment and adds its row: medians over the rounds, the first one left out."""
    rates = []
    for _ in range(rounds + 1):
        cpu, wall, count = time.process_time(), time.perf_counter(), 0
        while time.perf_counter() - wall < 1.0:
            step()
            count += rows
        rates.append((count / (time.process_time() - cpu), count / (time.perf_counter() - wall)))
    by_cpu, by_wall = (statistics.median(side) for side in zip(*rates[1:], strict=True))
    measured.add(task=task, reward=reward, environments=name, steps_per_CPU_second=by_cpu, steps_per_second=by_wall)


def add_gymnasiums_rate(measured: Measured, task: str, reward: str, env: gymnasium.Env[Any, Any], rounds: int) -> None:
    """Adds what Gymnasium's own benchmark says of an environment."""
    cpu, wall = time.process_time(), time.perf_counter()
    by_wall = benchmark_step(env, target_duration=rounds, seed=0)
    by_cpu = by_wall * (time.perf_counter() - wall) / (time.process_time() - cpu)
    name = "`gym.make`, `gymnasium.utils.performance.benchmark_step`"
    measured.add(task=task, reward=reward, environments=name, steps_per_CPU_second=by_cpu, steps_per_second=by_wall)


def shares_table(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    measured = Measured("shares", options.rows)
    for name in options.agents:
        rules: dict[str, Any] = {
            "num_envs": agents.AGENTS[name].num_envs,
            "autoreset_mode": "SAME_STEP",
            "reward": "increment",
        }
        agent: Any = agents.make_agent(name, gymnasium.make_vec(options.task, **rules), seed=0)
        agent.learn(options.steps)
        env, update = Timed(agent.env.step), Timed(agent.train)
        agent.env.step, agent.train = env, update
        started, before = time.process_time(), agent.num_timesteps
        agent.learn(options.steps, reset_num_timesteps=False)
        taken, steps = time.process_time() - started, agent.num_timesteps - before
        seconds = {"environment": env.seconds, "updates": update.seconds, "policy and buffers": 0.0, "all": taken}
        seconds["policy and buffers"] = taken - env.seconds - update.seconds
        measured.add(task=options.task, agent=name, **{f"{part}, ms": 1e3 * t / steps for part, t in seconds.items()})


class Timed:
    """A function that adds up the processor seconds it takes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self.seconds = function, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        found = self._function(*args, **kwargs)
        self.seconds += time.process_time() - started
        return found


def single_steps(env: gymnasium.Env[Any, Any]) -> Callable[[], None]:
    """A step at a random place, and a reset after the last one."""
    env.reset(seed=0)
    env.action_space.seed(0)

    def step() -> None:
        if env.step(env.action_space.sample())[2]:
            env.reset()

    return step


def vector_steps(envs: gymnasium.vector.VectorEnv[Any, Any, Any], array: str, device: str) -> Callable[[], object]:
    """A step of all rows, at places drawn in advance."""
    envs.reset(seed=0)
    places = np.random.default_rng(0).uniform(-1, 1, (16, envs.num_envs, 2)).astype(np.float32)
    actions = itertools.cycle(torch.from_numpy(places).to(device) if array == "torch" else places)
    return lambda: envs.step(next(actions))


def sampled_steps(envs: gymnasium.vector.VectorEnv[Any, Any, Any]) -> Callable[[], object]:
    """A step of all rows at random actions, for any space."""
    envs.reset(seed=0)
    actions = itertools.cycle([envs.action_space.sample() for _ in range(16)])
    return lambda: envs.step(next(actions))


def stage2_table(options: argparse.Namespace) -> None:
    measured = Measured("stage2", options.rows)
    for name in options.configs:
        for reward in options.rewards:
            config = stage2_config(name, reward, options.num_envs)
            names, frames = config.data.class_names(), config.classifier.num_frames
            num_classes = 1000 if names is None else len(names)
            torch.manual_seed(0)
            classifier = frozen(GlanceFocusClassifier(config.classifier, num_classes).eval(), compile=options.compile)
            library = build_encoder(config.classifier.encoder, num_classes).eval()
            sides = [
                Forwards(classifier.local_encoder, classifier.global_encoder, config),
                Forwards(library, library, config),
            ]
            times: list[list[float]] = [[], []]

            def alone(
                steps: int, episodes: int, sides: list[Forwards] = sides, times: list[list[float]] = times
            ) -> None:
                for side, taken in zip(sides, times, strict=True):
                    taken.append(seconds(partial(side.run, steps, episodes)) / (steps * options.num_envs))

            images = Repeated(noise_images(config.data.image_size, num_classes, frames), config.data.num_train)
            steps = seconds_per_step(classifier, images, config, options.rounds, alone)
            ratios = [statistics.median(a / b for a, b in zip(steps, side[1:], strict=True)) for side in times]
            cells: dict[str, Any] = {"ms a step": 1e3 * statistics.median(steps)}
            cells |= {"times the frozen encoders' forwards": ratios[0], "times the library's": ratios[1]}
            encoders = "compiled" if options.compile else "frozen"
            measured.add(config=name, reward=reward, encoders=encoders, **cells)


def files_table(options: argparse.Namespace) -> None:
    print("| config | reward | in memory, ms a step | prefetched files | their ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), 512)
        files = FolderImages.open(Path(folder), (224, 224), crop_pct=0.875)
        sources: list[ImageSource] = [Repeated(in_memory(files)), Repeated(files)]
        for name in options.configs:
            torch.manual_seed(0)
            spec = load_config(name).classifier
            classifier = frozen(GlanceFocusClassifier(spec, 2).eval(), compile=options.compile)
            for reward in options.rewards:
                config = stage2_config(name, reward, options.num_envs)
                times: list[list[float]] = [[], []]
                for _ in range(options.rounds):
                    for source, taken in zip(sources, times, strict=True):
                        taken += seconds_per_step(classifier, source, config, rollouts=2)
                memory, disk = (1e3 * statistics.median(taken) for taken in times)
                print(f"| {name} | {reward} | {memory:.2f} | {disk:.2f} | {disk / memory:.2f} |")


def training_table(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    print("| config | stage I: MB an image | s an image | low resolution: MB an image | s an image |")
    print("|---|---|---|---|---|")
    for name in options.configs:
        config = load_config(name, ["data.root=IMAGENET"])
        images = torch.randint(0, 256, (options.images, 3, *config.data.image_size), dtype=torch.uint8)
        labels = torch.randint(0, 1000, (options.images,))
        classifier = GlanceFocusClassifier(config.classifier, 1000).train()
        side = config.classifier.glance_side
        network = FullResolutionNetwork(build_encoder(config.classifier.encoder, 1000), (side, side)).train()
        cells = []
        for model, loss in (
            (classifier, partial(sequence_error, classifier, images, labels)),
            (network, partial(image_error, network, images, labels)),
        ):
            held = held_bytes(model, loss)
            taken = seconds(partial(backward, loss))
            cells += [f"{held / options.images / 1e6:.0f}", f"{taken / options.images:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def sequence_error(classifier: GlanceFocusClassifier, images: Tensor, labels: Tensor) -> Tensor:
    return sequence_loss(classifier(images, random_policy(torch.Generator())), labels, 1.0)


def image_error(network: FullResolutionNetwork, images: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(network(images), labels)


def backward(loss: Callable[[], Tensor]) -> None:
    loss().backward()


def thresholds_table(options: argparse.Namespace) -> None:
    table = generated_records(options.images)
    budgets = np.linspace(table.multiply_adds[0], table.multiply_adds.max(), 42)[1:-1]
    started = time.process_time()
    search = CoordinateAscent(table)
    front = [search.within(budget) for budget in budgets]
    taken, bound = time.process_time() - started, AccuracyBound(table)
    limits = [bound.at(budget) for budget in budgets]
    shares = [found.credit / limit for found, limit in zip(front, limits, strict=True)]
    print("| thresholds | processor seconds | share of the bound: mean, least |\n|---|---|---|")
    print(f"| coordinate ascent, 40 budgets | {taken:.1f} | {np.mean(shares):.3f}, {np.min(shares):.3f} |")
    for place in (5, 15, 25, 35) if options.genetic else ():
        started = time.process_time()
        accuracy = table.figures(genetic_thresholds(table, budgets[place])).accuracy
        what = f"{budgets[place] / 1e9:.2f} G: {accuracy:.4f}; coordinate ascent: {front[place].credit:.4f}"
        print(f"| genetic, {what} | {time.process_time() - started:.1f} | {accuracy / limits[place]:.3f} |")


class Repeated(SourceView[ImageSource]):
    """A few images that stand for a whole data set, so that glances are repeated only as often as there."""

    def __init__(self, source: ImageSource, count: int | None = None) -> None:
        super().__init__(source)
        self._count = count or IMAGENET_IMAGES

    def __len__(self) -> int:
        return self._count

    def fetch(self, indices: Tensor) -> Batch:
        return self.source.fetch(indices % len(self.source))

    def for_epoch(self, epoch: int) -> Repeated:
        return self


def stage2_config(name: str, reward: str, num_envs: int) -> RunConfig:
    """A config with fewer environments in stage II, its batches smaller in proportion."""
    config = load_config(name, [f"stage2.episode.reward={reward}"])
    spec, options = config.stage2, dict(config.stage2.options)
    if spec.num_envs is not None and "batch_size" in options:
        options["batch_size"] = max(1, options["batch_size"] * num_envs // spec.num_envs)
    return config.replace(stage2=spec.replace(num_envs=num_envs, options=options))


def seconds_per_step(
    classifier: FrozenClassifier,
    source: ImageSource,
    config: RunConfig,
    rollouts: int,
    between: Callable[[int, int], None] | None = None,
) -> list[float]:
    """Trains a new agent and times every rollout together with the update before it.

    Args:
        classifier: the networks.
        source: the images.
        config: of the run.
        rollouts: how many are timed; one more, which warms up or compiles, comes first.
        between: called after each rollout, the first one included, with its steps of one environment and the number of
            episodes that began in it; its time is not counted.

    Returns:
        Seconds per environment step, for each rollout.
    """
    agent: Any = new_agent(policy_env(classifier, source, config.stage2), config.stage2, seed=0)
    taken: list[float] = []
    since = time.perf_counter()

    def on_rollout(done: int, total: int, figures: dict[str, float]) -> None:
        nonlocal since
        taken.append(time.perf_counter() - since)
        if between is not None:
            between(agent.n_steps, int(agent.rollout_buffer.episode_starts.sum()))
        since = time.perf_counter()

    steps = agent.n_steps * agent.n_envs
    train_agent(agent, (rollouts + 1) * steps, seed=0, on_rollout=on_rollout)
    return [rollout / steps for rollout in taken[1:]]


class Forwards:
    """The encoders alone, on random pixels: patches of all rows at every step, and glances of new episodes."""

    def __init__(self, local: Encoder, glance: Encoder, config: RunConfig) -> None:
        self._local, self._glance = local, glance
        episode, num_envs = config.stage2.episode, config.stage2.num_envs or 1
        samples = episode.reward_samples if episode.draws_patches else 0
        self._patches = self._pixels((1 + samples) * num_envs, config.classifier.patch_size)
        self._glances = self._pixels(num_envs, config.classifier.glance_side)

    def _pixels(self, count: int, side: int) -> Tensor:
        return torch.randint(0, 256, (count, *self._local.blank((side, side)).shape[1:]), dtype=torch.uint8)

    @torch.inference_mode()
    def run(self, steps: int, episodes: int) -> None:
        for _ in range(steps):
            self._local.encode_pixels(self._patches)
        for start in range(0, episodes, len(self._glances)):
            self._glance.encode_pixels(self._glances[: episodes - start])


def noise_images(image_size: tuple[int, int], num_classes: int, num_frames: int | None) -> ArrayImages:
    frames = () if num_frames is None else (num_frames,)
    images = torch.randint(0, 256, (512, *frames, 3, *image_size), dtype=torch.uint8)
    boxes = torch.zeros(512, 1, 4, dtype=torch.int64)
    return ArrayImages(images, torch.arange(512) % num_classes, boxes, default_class_names(num_classes))


def write_pictures(root: Path, count: int) -> None:
    """JPEG files of smooth noise, about as large as photos', 500x375 pixels, in two classes."""
    rng = np.random.default_rng(0)
    for index in range(count):
        folder = root / ("left" if index % 2 else "right")
        folder.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (125, 166, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)


def held_bytes(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Bytes of the tensors kept for the backward pass, without the weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss()
    found = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)
    value.backward()
    return found


def generated_records(count: int) -> HistoryTable:
    """Images of varying difficulty, each with a size that suits it best; larger patches help and cost more."""
    rng = np.random.default_rng(0)
    histories = size_histories(3, 4)
    gain = np.array([sum((0.6 + 0.3 * size) * 0.8**look for look, size in enumerate(each)) for each in histories])
    suits = np.array([[0.25 * each.count(size) for each in histories] for size in range(3)])
    margin = 0.7 + gain + suits[rng.integers(3, size=count)] - 1.6 * rng.normal(size=(count, 1))
    probability = 1.0 / (1.0 + np.exp(-margin - 0.7 * rng.normal(size=margin.shape)))
    is_right = rng.random((count, 1)) < probability
    look = 0.75e9 * (np.array([96, 128, 160]) / 96) ** 2 + 0.056e9  # ResNet-50, policy and classifier counted
    costs = np.array([0.76e9 + sum(look[size] for size in each) for each in histories])
    return HistoryTable(probability.astype(np.float32), is_right, costs, 3)


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
