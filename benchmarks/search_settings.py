"""Searches the settings of the registry's agents: trains each on a task and scores it on validation scenes.

    python benchmarks/search_settings.py [PATTERN ...] [--task GFNet-SyntheticSigns-v0] [--steps 20000] [--seeds 2] \
        --out settings.csv

A setting is an agent and what it changes in its recipe, such as "ppo gamma=0.9"; patterns like "ppo *" or "* lean"
select some, and the default is all. Each training appends one row to the CSV, and started again, the program skips the
rows that are there. All trainings share the task's frozen classifier, the increment reward, a learning rate that falls
linearly to a tenth, and, where a setting says nothing else, an exploration that falls from 0.25 to 0.04. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

import agents
from agents.algorithms.stage2 import train_agent
from gfnet_env import GlanceFocusVectorEnv

DISCOUNTS = (0.0, 0.7, 0.9, 0.95)
RATES = (1e-3, 4e-3, 8e-3)
STDS = ((0.15, 0.15), (0.25, 0.04), (0.35, 0.04), (0.25, 0.1), (0.1, 0.1))
LEAN = {"conv_channels": 8, "units": 64}
WIDE = {"conv_channels": 32, "units": 256}
COLUMNS = ("task", "setting", "seed", "steps", "accuracy", "cpu_seconds")


@dataclass(frozen=True)
class Setting:
    """An agent and what differs from its recipe.

    Attributes:
        agent: a key of `agents.AGENTS`.
        options: arguments of the algorithm.
        policy_options: arguments of the policy; those of `extractor` override the recipe's.
        std: first and last standard deviation of the actions, in [0, 1] units.
    """

    agent: str
    options: dict[str, Any] = field(default_factory=dict)
    policy_options: dict[str, Any] = field(default_factory=dict)
    std: tuple[float, float] = (0.25, 0.04)


def _settings() -> Iterator[tuple[str, Setting]]:
    on_policy = [name for name, recipe in agents.AGENTS.items() if recipe.rollout]
    off_policy = [name for name, recipe in agents.AGENTS.items() if recipe.updates_per_step]
    for name in on_policy:
        for discount in DISCOUNTS:
            yield f"{name} gamma={discount:g}", Setting(name, {"gamma": discount})
    for name in ("ppo", "ppo_gru", "recurrent_ppo", "a2c", "trpo"):
        yield f"{name} wide", Setting(name, policy_options={"extractor": WIDE})
        yield f"{name} lean", Setting(name, policy_options={"extractor": LEAN})
        for first, last in STDS:
            yield f"{name} std={first:g}-{last:g}", Setting(name, std=(first, last))
    for rate in RATES:
        yield f"ppo_grid lr={rate:g}", Setting("ppo_grid", {"learning_rate": rate})
    for name in off_policy:
        yield f"{name} wide", Setting(name, policy_options={"extractor": WIDE})
        yield f"{name} lean", Setting(name, policy_options={"extractor": LEAN})
        for discount in DISCOUNTS[::2]:
            changes = {"gamma": discount}
            yield f"{name} lean gamma={discount:g}", Setting(name, changes, {"extractor": LEAN})
    yield "differentiable_crop", Setting("differentiable_crop")
    for name in ("td3", "ddpg"):
        for penalty in (0.0, 0.1, 1.0):
            penalized: dict[str, Any] = {"extractor": LEAN, "saturation_penalty": penalty}
            yield f"{name} lean penalty={penalty:g}", Setting(name, policy_options=penalized)
            yield f"{name} lean penalty={penalty:g} lr=0.001", Setting(name, {"learning_rate": 1e-3}, penalized)


SETTINGS = dict(_settings())
"""All settings by name."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN")
    parser.add_argument("--task", default="GFNet-SyntheticSigns-v0")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in SETTINGS if any(fnmatch(name, pattern) for pattern in options.patterns)]
    done = {(row["task"], row["setting"], row["seed"], row["steps"]) for row in read_rows(options.out)}
    for seed in range(options.seeds):
        for name in names:
            if (options.task, name, str(seed), str(options.steps)) not in done:
                append_row(options.out, trained(options.task, name, seed, options.steps))
    rows = [row for row in read_rows(options.out) if row["task"] == options.task and row["setting"] in names]
    print(markdown_table(rows))


def trained(task: str, name: str, seed: int, steps: int) -> dict[str, str]:
    """One training: its row of the CSV."""
    setting = SETTINGS[name]
    recipe = agents.AGENTS[setting.agent]
    env = _made(task, num_envs=recipe.num_envs, autoreset_mode="SAME_STEP")
    initial = {**recipe.defaults, **setting.options}["learning_rate"]
    options = {**setting.options, "learning_rate": lambda left: initial * (0.1 + 0.9 * left)}
    extractor = {**recipe.policy_kwargs["extractor"], **setting.policy_options.get("extractor", {})}
    policy_options = {**setting.policy_options, "extractor": extractor}
    agent = agents.make_agent(setting.agent, env, policy_kwargs=policy_options, seed=seed, **options)
    started = time.process_time()
    with closing(env):
        train_agent(agent, steps, seed=seed, action_std_schedule=setting.std)
    seconds = time.process_time() - started
    scenes = _made(task, num_scenes=500, split="val").task
    record = agents.evaluate(scenes.classifier, scenes.source, agents.DeterministicPolicy(agent))
    accuracy = " ".join(f"{value:.3f}" for value in agents.accuracy_by_step(record))
    values = (task, name, seed, steps, accuracy, f"{seconds:.0f}")
    return dict(zip(COLUMNS, map(str, values), strict=True))


def _made(task: str, **options: Any) -> GlanceFocusVectorEnv:
    env = gymnasium.make_vec(task, reward="increment", **options)
    assert isinstance(env, GlanceFocusVectorEnv)
    return env


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of the trainings that are done; none without a file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append_row(path: Path, row: dict[str, str]) -> None:
    """Adds a training's row, and a header to a new file."""
    is_new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def markdown_table(rows: list[dict[str, str]]) -> str:
    """Means over the seeds: accuracy at t=2 and t=T, and CPU seconds of the training."""
    lines = ["| setting | steps | seeds | t=2 | t=T | CPU seconds |", "|---|---|---|---|---|---|"]
    for name, steps in dict.fromkeys((row["setting"], row["steps"]) for row in rows):
        of = [row for row in rows if (row["setting"], row["steps"]) == (name, steps)]
        accuracy = np.array([[float(value) for value in row["accuracy"].split()] for row in of])
        second, last = accuracy[:, 1].mean(), accuracy[:, -1].mean()
        seconds = np.mean([float(row["cpu_seconds"]) for row in of])
        lines.append(f"| {name} | {int(steps):,} | {len(of)} | {second:.3f} | {last:.3f} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
