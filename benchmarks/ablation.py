"""Tables 2, 5 and 8: the same run with one thing changed, over several seeds.

    python benchmarks/ablation.py [NAME ...] --out FOLDER [--config CONFIG] [--seeds 3] [--set KEY=VALUE ...]

The names are those of the files in `agents/runs/configs/ablations/`; without names, all are trained. Stages that two
runs train alike are trained once, and all seeds start from one full-resolution network, as the paper's start from
ImageNet's. Started again, the program continues where it stopped. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from agents.runs.config import RunConfig
from agents.runs.config_files import CONFIGS, load_config
from agents.runs.folder import RunFolder, read_metrics
from agents.runs.log import Reporter
from agents.runs.pipeline import Pipeline
from agents.runs.stages import STAGES, changed_setting, claimed
from classifiers.training.loop import NonFiniteLossError
from scripts.console import PlainConsole
from scripts.progress import TerminalReporter

FOLDER = CONFIGS / "ablations"
FULL = str(FOLDER / "full.yaml")
ABLATIONS = tuple(sorted((path.stem for path in FOLDER.glob("*.yaml")), key=lambda name: (name != "full", name)))
"""The variants, starting with the one that all others change."""

Runs = dict[tuple[str, int], RunConfig]
"""Configs by the run's name and seed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all if left out: {', '.join(ABLATIONS)}")
    parser.add_argument("--config", default=FULL, help="config that the variants change")
    add_options(parser)
    options = parser.parse_args()
    names = options.names or ABLATIONS
    runs = {
        (name, seed): variant(name, options.config, [*options.set, f"seed={seed}"])
        for name in names
        for seed in range(options.seeds)
    }
    with TerminalReporter(PlainConsole(stderr=True), quiet=False) as reporter:
        metrics = train_all(runs, options.out, reporter)
    rows = {
        name: [metrics[name, seed]["accuracy"]["learned"] for seed in range(options.seeds) if (name, seed) in metrics]
        for name in names
    }
    table = markdown_table(rows, options.seeds)
    (options.out / "ablations.json").write_text(json.dumps(rows, indent=1))
    (options.out / "ablations.md").write_text(table, encoding="utf-8")
    print(table)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and the table")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many seeds")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of all configs")


def variant(name: str, base: str, changes: list[str]) -> RunConfig:
    """A config with one thing changed; the variant's own keys come before the `changes`."""
    return load_config(base, [*own_settings(name), *changes])


def own_settings(name: str) -> list[str]:
    """What a variant changes, as `KEY=VALUE`."""
    if name not in ABLATIONS:
        raise ValueError(f"no ablation {name!r}; pass names of {', '.join(ABLATIONS)}")
    if name == "full":
        return []
    tree = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return [*own_settings(tree.pop("extends")), *_flat(tree)]


def _flat(tree: dict[str, Any], group: str = "") -> list[str]:
    settings: list[str] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            settings += _flat(value, f"{group}{key}.")
        else:
            settings.append(f"{group}{key}={json.dumps(value)}")
    return settings


def train_all(
    runs: Runs, folder: Path, reporter: Reporter, policies: Collection[str] | None = None
) -> dict[tuple[str, int], dict[str, Any]]:
    """Trains each run in `folder/NAME/seed_SEED`, unless it is done; the metrics of those whose loss stayed finite."""
    done: list[tuple[RunConfig, Path]] = []
    metrics = {}
    for (name, seed), config in runs.items():
        run = folder / name / f"seed_{seed}"
        reporter.note(f"{name}, seed {seed}")
        with claimed(run, config):
            for finished, theirs in done:
                _share_stages(finished, theirs, config, run)
            is_done = RunFolder(run).metrics.is_file()
            try:
                found = read_metrics(run) if is_done else Pipeline(config, run, reporter).run(policies)
            except NonFiniteLossError as error:
                reporter.note(f"{name}, seed {seed}: {error}")
                continue
        metrics[name, seed] = found
        done.append((config, run))
    return metrics


def _share_stages(finished: RunConfig, theirs: Path, config: RunConfig, ours: Path) -> None:
    """Copies the files of every stage that two runs train alike."""
    for count, stage in enumerate(STAGES[:-1], 1):
        like = finished.replace(seed=config.seed) if count == 1 else finished
        if changed_setting(like, config, STAGES[:count]) is not None:
            return
        for path in stage.files_in(theirs):
            target = ours / path.relative_to(theirs)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                unfinished = target.with_name(f"{target.name}.copy")
                shutil.copyfile(path, unfinished)
                unfinished.replace(target)


def markdown_table(rows: dict[str, list[list[float]]], seeds: int) -> str:
    """Mean and standard deviation over the seeds of the accuracy after each step, by variant."""
    steps = max((len(accuracy) for row in rows.values() for accuracy in row), default=0)
    heads = "".join(f" t={step} |" for step in range(1, steps + 1))
    lines = [f"| ablation ({seeds} seeds) |{heads}", f"|---|{'---|' * steps}"]
    for name, row in rows.items():
        diverged = f" ({seeds - len(row)} diverged)" if len(row) < seeds else ""
        lines.append(f"| {name}{diverged} | {' | '.join(cells(np.array(row))) if row else ' | '.join(['-'] * steps)} |")
    return "\n".join(lines) + "\n"


def cells(values: np.ndarray, scale: float = 1.0, digits: int = 3) -> list[str]:
    """Mean and standard deviation of each column of (seeds, M) values; the mean alone for one seed."""
    mean = scale * values.mean(axis=0)
    if len(values) == 1:
        return [f"{value:.{digits}f}" for value in mean]
    spread = scale * values.std(axis=0, ddof=1)
    return [f"{value:.{digits}f} ± {error:.{digits}f}" for value, error in zip(mean, spread, strict=True)]


if __name__ == "__main__":
    main()
