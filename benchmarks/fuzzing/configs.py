"""Configs that were damaged as text or as trees, and `--set` with keys and values that are more or less sensible."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from agents.algorithms.registry import AGENTS
from fuzzing.case import Case

_VALUES = [
    *("null", "true", "false", "-1", "0", "1", "2", "3", "0.5", "-0.5", ".nan", ".inf", "-.inf", "1e400", "1e-400"),
    *("''", "abc", "'[red]x[/x]'", "[]", "{}", "[1, 2]", "[[]]", "{a: 1}", "0x10", "2026-01-01", "!!binary aGk="),
    *("}", "[", "'", "*x", "&x 1", "!!set {a}", "!!python/object/apply:os.system ['touch canary']", "x" * 3000),
    *("gru", "cascade", "average", "resnet18", "timm:no", "increment", "contrastive", "sgd", "bfloat16", "float16"),
    *("cuda", "meta", "image_folder", "skip", "bicubic", "area", "encoder", "centre", "shipped", "/nowhere", "."),
    *("random", "centre-corner", "oracle", *AGENTS),
]
_LARGE = "1000000000000"
_NOT_LARGE = {  # would be long work, as asked
    *("epochs", "env_steps", "num_train", "num_val", "num_test", "rounds", "evaluations", "oracle_grid", "num_envs"),
    *("height", "width", "max_distractors", "num_glimpses", "reward_samples", "num_workers", "n_epochs", "n_steps"),
    *("min_sign_px", "max_sign_px", "num_scenes", "gradient_steps", "n_eval_episodes", "low_resolution_sides"),
}
_OPTIONS = [
    *("gamma", "n_epochs", "n_steps", "batch_size", "learning_rate", "clip_range", "gae_lambda", "ent_coef", "vf_coef"),
    *(
        "max_grad_norm",
        "target_kl",
        "verbose",
        "seed",
        "device",
        "policy",
        "env",
        "tensorboard_log",
        "policy_kwargs",
        "x",
    ),
]
_POLICY_OPTIONS = [
    "extractor",
    "extractor.units",
    "extractor.conv_channels",
    "net_arch",
    "activation_fn",
    "log_std_init",
    "x",
]


def _value(rng: random.Random, key: str) -> str:
    if rng.random() < 0.1 and key.rpartition(".")[2] not in _NOT_LARGE:
        return _LARGE
    return rng.choice(_VALUES)


def _leaves(tree: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{above}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")


def random_change(rng: random.Random, base: Path) -> str:
    """A `key=value` that is more or less sensible."""
    keys = list(_leaves(yaml.safe_load((base / "config.yaml").read_text())))
    kind = rng.random()
    if kind < 0.6:
        key = rng.choice(keys)
    elif kind < 0.8:
        key = f"stage2.options.{rng.choice(_OPTIONS)}"
    elif kind < 0.9:
        key = f"stage2.policy_options.{rng.choice(_POLICY_OPTIONS)}"
    else:
        return rng.choice(
            ["", "=", "=1", "seed", "seed.x=1", ".=1", "a.b.c=1", "..=", "data=1", "é=1", "seed==1", "\x00=1"]
        )
    return f"{key}={_value(rng, key)}"


_TOKENS = [
    "\t",
    ": ",
    "{",
    "}",
    "[",
    "- ",
    "\x00",
    "\ufeff",
    "\u2028",
    "é",
    "&a ",
    "*a",
    "? ",
    "|",
    "<<: *a",
    "%",
    "---\n",
    "!!x ",
]
_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def damaged_text(rng: random.Random, text: str) -> bytes:
    place, length = rng.randrange(len(text)), rng.randrange(1, 40)
    damages: list[Callable[[], bytes]] = [
        lambda: text[:place].encode(),
        lambda: (text[:place] + text[place + length :]).encode(),
        lambda: (text[:place] + text[place : place + length] + text[place:]).encode(),
        lambda: (text[:place] + rng.choice(_TOKENS) + text[place:]).encode(),
        lambda: text[:place].encode() + rng.randbytes(3) + text[place:].encode(),
        lambda: text.encode("utf-16"),
        lambda: (_LAUGHS + text + "seed: *i\n").encode(),
        lambda: (text + "extends: config\n").encode(),
        lambda: (text + f"extends: {rng.choice(_VALUES)}\n").encode(),
        lambda: (text + "seed: !!python/object/apply:os.system ['touch canary']\n").encode(),
        lambda: rng.choice(["", "null", "[]", "1", "a", "---\n---\n", "{" * 2000, "? " * 500, "- " * 500]).encode(),
    ]
    return rng.choice(damages)()


def damaged_tree(rng: random.Random, text: str) -> bytes:
    tree = yaml.safe_load(text)
    for _ in range(rng.randint(1, 2)):
        path = rng.choice(list(_leaves(tree))).split(".")
        group = tree
        for key in path[:-1]:
            group = group.get(key) if isinstance(group.get(key), dict) else group
        if rng.random() < 0.3:
            group.pop(path[-1], None)
            continue
        value = _value(rng, path[-1])
        try:
            group[path[-1]] = yaml.safe_load(value)
        except yaml.YAMLError:
            group[path[-1]] = value
    return yaml.safe_dump(tree).encode()


def config_case(rng: random.Random, folder: Path, base: Path) -> Case:
    """A config file that was damaged, as text or as a tree."""
    damage = rng.choice([damaged_text, damaged_tree, damaged_tree])
    (folder / "config.yaml").write_bytes(damage(rng, (base / "config.yaml").read_text()))
    if rng.random() < 0.4:
        return Case(["cost", str(folder / "config.yaml")], damage.__name__)
    return Case(["train", str(folder / "config.yaml"), "--out", str(folder / "out"), "--quiet"], damage.__name__)


def change_case(rng: random.Random, folder: Path, base: Path) -> Case:
    """A `--set` that is wrong."""
    change = random_change(rng, base)
    command = rng.choice(["train", "train", "train", "cost", "evaluate", "env"])
    if command == "env":
        key = rng.choice(
            ["num_glimpses", "reward", "scenes", "classifier", "patch_size", "observe", "split", "device", "x"]
        )
        change = f"{key}={_value(rng, key)}"
        sizes = ["--num-envs", "2", "--steps", "2", "--set", "num_scenes=4"]
        return Case(["env", "GFNet-SyntheticSigns-v0", *sizes, "--set", change], change)
    if command == "evaluate":
        shutil.copytree(base / "run", folder / "run")
        return Case(["evaluate", str(folder / "run"), "--quiet", "--set", change], change)
    out = ["--out", str(folder / "out"), "--quiet"] if command == "train" else []
    start = ["--set", f"start={base / 'run'}"] if rng.random() < 0.5 else []
    return Case([command, str(base / "config.yaml"), *out, *start, "--set", change], change)
