"""Options and names that are more or less sensible, for any of the subcommands."""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path

from fuzzing.case import SHRUNK, Case
from fuzzing.configs import random_change
from gfnet_env import TASKS
from scripts.cli import build_parser

_ARGUMENTS = [
    *(
        "-1",
        "0",
        "1",
        "2",
        "3",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "abc",
        "",
        "1e-3",
        "7M",
        "M",
        "1,2",
        "0.5,0.5",
        "-1,-.5",
    ),
    *("٣", "[red]x[/x]", "\x00", "x" * 500),
]


def _subcommands() -> dict[str, list[argparse.Action]]:
    parser = build_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: command._actions for name, command in commands.choices.items()}


def option_case(rng: random.Random, folder: Path, base: Path) -> Case:
    """Options and names that are more or less sensible, for any of the subcommands."""
    subcommands = _subcommands()
    command = rng.choice(list(subcommands))
    shutil.copytree(base / "run", folder / "run")
    sets = [part for change in SHRUNK for part in ("--set", change)]
    small = {
        "demo": ["--set", f"start={base / 'run'}", *sets],
        "benchmark": ["--steps", "8", "--seeds", "1", "--set", f"start={base / 'run'}", *sets],
        "ablate": ["--seeds", "1", *sets],
        "env": ["--num-envs", "2", "--steps", "2", "--set", "num_scenes=4"],
    }
    names = {
        "config": [str(base / "config.yaml"), "nothing", str(folder), ""],
        "checkpoint": [str(base / "config.yaml"), "nothing", str(folder)],
        "names": ["ppo", "full", "no_glance", "nothing", "[red]", "random"],
        "run": [str(folder / "run"), str(folder / "run"), "nothing", str(base / "config.yaml")],
        "runs": [str(folder / "run"), str(folder / "run"), "nothing"],
        "images": [str(base / "run" / "glimpses.png"), "nothing.jpg", str(folder), str(base / "config.yaml")],
        "id": [*TASKS, "nothing", "CartPole-v1", "gfnet_env:GFNet-SyntheticSigns-v0"],
    }
    arguments = [command]
    for action in subcommands[command]:
        if not action.option_strings:
            count = rng.choice([1, 1, 1, 2]) if action.nargs in ("+", "*") else 1
            arguments += [rng.choice(names[action.dest]) for _ in range(count)]
        elif action.dest == "out" and (action.required or command == "demo"):
            arguments += ["--out", str(folder / "out")]
    arguments += small.get(command, [])
    options = [
        action for action in subcommands[command] if action.option_strings and action.dest not in ("help", "out")
    ]
    for action in rng.sample(options, k=min(len(options), rng.choice([0, 1, 1, 2]))):
        arguments += _option(rng, action, base)
    if rng.random() < 0.05:
        arguments.append(rng.choice(["--nothing", "--", "-x", "extra"]))
    return Case(arguments, " ".join(arguments[-4:]))


def _option(rng: random.Random, action: argparse.Action, base: Path) -> list[str]:
    flag = action.option_strings[0]
    if action.nargs == 0:
        return [flag]
    if action.dest == "set":
        return [flag, random_change(rng, base)]
    if action.choices:
        return [flag, rng.choice([*map(str, action.choices), "nothing"])]
    return [f"{flag}={rng.choice(_ARGUMENTS)}"]
