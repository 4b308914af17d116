"""Ablations (Tables 5 and 8): the same run with one thing changed, over several seeds.

Runs share what their configs train alike: a variant that changes stage III alone starts from the networks and the
policy of a variant that is done. All seeds start from one full-resolution network, as the paper's do from ImageNet's.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.runs.config import RunConfig
from agents.runs.config_files import CONFIGS, check_same_config, dump_config, load_config
from agents.runs.folder import RunFolder
from agents.runs.pipeline import Pipeline, read_metrics
from agents.runs.results import Reporter
from classifiers.files import write_json, write_text
from classifiers.training.loop import NotANumberError

_FILES = (CONFIGS / "ablations").glob("*.yaml")
ABLATIONS = tuple(sorted((path.stem for path in _FILES), key=lambda name: (name != "full", name)))
"""Names of the shipped ablations, what all others change first."""


@dataclass(frozen=True)
class AblationRow:
    """What one variant reached.

    Attributes:
        name: of the ablation.
        mean: accuracy after each step, averaged over the seeds; empty if no run converged.
        spread: its standard deviation over the seeds (of a sample; 0 for one seed).
        seeds: how many seeds.
        diverged: seeds whose loss stopped being a number; they don't count in mean and spread.
    """

    name: str
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    seeds: int
    diverged: int = 0


def run_ablations(
    names: Sequence[str],
    folder: Path,
    *,
    seeds: int,
    changes: Sequence[str],
    reporter: Reporter,
) -> list[AblationRow]:
    """Trains every variant with every seed and writes `ablations.json` and `ablations.md`.

    Started again, it goes on where it was.

    Args:
        names: of `ABLATIONS`.
        folder: where the runs lie, `NAME/seed_S` each.
        seeds: how many seeds, from 0.
        changes: `key=value` changes to all configs.
        reporter: shows progress.

    Returns:
        The table's rows, in the order of `names`.

    Raises:
        ValueError: if a name is unknown, a config is wrong, or the folder holds runs with other settings.
        OSError: if the folder can't be written.
    """
    unknown = [name for name in names if name not in ABLATIONS]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no such ablation; pass names of {', '.join(ABLATIONS)}")
    if seeds < 1:
        raise ValueError(f"{seeds} seeds; pass 1 or more")
    configs = {
        (name, seed): load_config(str(CONFIGS / "ablations" / f"{name}.yaml"), [*changes, f"seed={seed}"])
        for name in names
        for seed in range(seeds)
    }
    runs = {(name, seed): RunFolder(folder / name / f"seed_{seed}") for name, seed in configs}
    for key, files in runs.items():
        if files.config.is_file():
            check_same_config(files.config, dump_config(configs[key]))
    done: list[tuple[RunConfig, RunFolder]] = []
    metrics: dict[tuple[str, int], dict[str, Any]] = {}
    for (name, seed), config in configs.items():
        files = runs[name, seed]
        reporter.note(f"{name}, seed {seed}")
        write_text(files.config, dump_config(config))
        for finished, theirs in done:
            share_stages(finished, theirs, config, files)
        is_done = files.metrics.is_file()
        try:
            metrics[name, seed] = read_metrics(files.path) if is_done else Pipeline(config, files.path, reporter).run()
        except NotANumberError as error:
            reporter.note(f"{name}, seed {seed}: {error}")
            continue
        done.append((config, files))
    reached = {key: found["accuracy"]["learned"] for key, found in metrics.items()}
    rows = [
        _row(name, [reached[name, seed] for seed in range(seeds) if (name, seed) in reached], seeds) for name in names
    ]
    write_json(folder / "ablations.json", {row.name: dataclasses.asdict(row) for row in rows})
    write_text(folder / "ablations.md", markdown_table(rows))
    return rows


def share_stages(finished: RunConfig, theirs: RunFolder, config: RunConfig, ours: RunFolder) -> None:
    """Copies the files of every stage that two runs train alike.

    Args:
        finished: config of a run that is done.
        theirs: its folder.
        config: config of a run that is to start.
        ours: its folder.
    """
    for depends_on, paths in _STAGES:
        if depends_on(finished) != depends_on(config):
            return
        for path in paths(theirs):
            target = ours.path / path.relative_to(theirs.path)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def _full_resolution(config: RunConfig) -> Any:
    spec = config.initialization
    networks = (config.classifier.encoder, config.classifier.resize_mode)
    return config.data, config.start, networks, spec and (spec.weights, spec.full_resolution)


def _initialization(config: RunConfig) -> Any:
    return _full_resolution(config), config.seed, config.initialization, config.classifier.glance_side


def _stage1(config: RunConfig) -> Any:
    return _initialization(config), config.classifier, config.start_stage, config.stage1


def _stage2(config: RunConfig) -> Any:
    before = config.stage3 if config.rounds > 1 else None
    return _stage1(config), config.stage2, config.start_stage, config.rounds, before


_STAGES: tuple[tuple[Callable[[RunConfig], Any], Callable[[RunFolder], list[Path]]], ...] = (
    (_full_resolution, lambda files: [path for path in [files.full_resolution] if path.is_file()]),
    (_initialization, lambda files: sorted((files.path / "initialization").glob("*.safetensors"))),
    (_stage1, lambda files: [path for path in [files.classifier(1)] if path.is_file()]),
    (_stage2, lambda files: [path for path in [files.policy] if path.is_file()]),
)


def _row(name: str, accuracies: list[list[float]], seeds: int) -> AblationRow:
    if not accuracies:
        return AblationRow(name, (), (), seeds, diverged=seeds)
    values = np.array(accuracies)  # (seeds that converged, T)
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    return AblationRow(name, tuple(values.mean(axis=0).tolist()), tuple(spread.tolist()), seeds, seeds - len(values))


def markdown_table(rows: Sequence[AblationRow]) -> str:
    """The rows as a Markdown table: mean and standard deviation over the seeds."""
    steps = range(1, max(len(row.mean) for row in rows) + 1)
    lines = [
        f"| ablation ({rows[0].seeds} seeds) | {' | '.join(f't={step}' for step in steps)} |",
        f"|---|{'---|' * len(steps)}",
    ]
    for row in rows:
        cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(row.mean, row.spread, strict=True)]
        cells += ["diverged"] * (len(steps) - len(cells))
        name = f"{row.name} ({row.diverged} diverged)" if row.diverged else row.name
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
