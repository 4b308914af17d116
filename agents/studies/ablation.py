"""Ablations (Tables 2, 5 and 8): the same run with one thing changed, over several seeds.

Runs share the stages that their configs train in the same way: a variant that only changes stage III starts from the
networks and the policy of a finished variant. All seeds start from one full-resolution network, as the paper's start
from ImageNet's.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from agents.runs.claim import check_settings, claimed, locked
from agents.runs.config import RunConfig
from agents.runs.config_files import CONFIGS, load_config
from agents.runs.folder import RunFolder
from agents.runs.metrics_file import read_metrics
from agents.runs.pipeline import Pipeline
from agents.runs.reporter import Reporter
from agents.runs.stages import STAGES, Stage, changed_setting
from classifiers.files import write_atomically, write_json, write_text
from classifiers.training.loop import NotANumberError

_FOLDER = CONFIGS / "ablations"
ABLATIONS = tuple(sorted((path.stem for path in _FOLDER.glob("*.yaml")), key=lambda name: (name != "full", name)))
"""Names of the shipped ablations, starting with the one that all others modify."""

FULL = str(_FOLDER / "full.yaml")
"""The config that the ablations of the embedded task change."""

_EVALUATION = Stage("evaluation", lambda config: ("data", "oracle_grid", "fixed_place_grid"), ("metrics.json",))
_STAGES = (*STAGES, _EVALUATION)


@dataclass(frozen=True)
class AblationRow:
    """The result of one variant.

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
    base: str = FULL,
) -> list[AblationRow]:
    """Trains every variant with every seed and writes `ablations.json` and `ablations.md`.

    Started again, it continues where it stopped.

    Args:
        names: of `ABLATIONS`.
        folder: holds the runs, each in `NAME/seed_S`.
        seeds: how many seeds, from 0.
        changes: `key=value` changes to all configs.
        reporter: shows progress.
        base: the config that every variant changes, a YAML file or the name of a shipped one: the row `full`.

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
    ablation_config("full", changes, base)  # what changes nothing there is a mistake
    configs = {
        (name, seed): ablation_config(name, [*changes, f"seed={seed}"], base, may_be_unused=True)
        for name in names
        for seed in range(seeds)
    }
    with locked(folder):
        for (name, seed), config in configs.items():
            check_settings(folder / name / f"seed_{seed}", config, _STAGES)
        rows = _rows(names, seeds, _train_all(configs, folder, reporter))
        write_json(folder / "ablations.json", {row.name: dataclasses.asdict(row) for row in rows})
        write_text(folder / "ablations.md", markdown_table(rows))
    return rows


def ablation_config(name: str, changes: Sequence[str], base: str, *, may_be_unused: bool = False) -> RunConfig:
    """A variant's config.

    Args:
        name: of `ABLATIONS`.
        changes: `key=value` changes to it.
        base: the config that it changes, see `run_ablations`.
        may_be_unused: see `load_config`.

    Returns:
        The checked config.

    Raises:
        ConfigError: if the variant does not fit the base, or a change is wrong.
    """
    own = base if name == "full" else str(_FOLDER / f"{name}.yaml")
    return load_config(own, list(changes), may_be_unused=may_be_unused, instead={Path(FULL): base})


def _train_all(
    configs: dict[tuple[str, int], RunConfig], folder: Path, reporter: Reporter
) -> dict[tuple[str, int], list[float]]:
    """Accuracy after each step of every run that converged."""
    done: list[tuple[RunConfig, RunFolder]] = []
    reached = {}
    for (name, seed), config in configs.items():
        files = RunFolder(folder / name / f"seed_{seed}")
        reporter.note(f"{name}, seed {seed}")
        try:
            with claimed(files.path, config, _STAGES):
                for finished, theirs in done:
                    share_stages(finished, theirs, config, files)
                is_done = files.metrics.is_file()
                metrics = read_metrics(files.path) if is_done else Pipeline(config, files.path, reporter).run()
        except NotANumberError as error:
            reporter.note(f"{name}, seed {seed}: {error}")
            continue
        reached[name, seed] = metrics["accuracy"]["learned"]
        done.append((config, files))
    return reached


def _rows(names: Sequence[str], seeds: int, reached: dict[tuple[str, int], list[float]]) -> list[AblationRow]:
    return [
        _row(name, [reached[name, seed] for seed in range(seeds) if (name, seed) in reached], seeds) for name in names
    ]


def share_stages(finished: RunConfig, theirs: RunFolder, config: RunConfig, ours: RunFolder) -> None:
    """Copies the files of every stage that two runs train alike; one full-resolution network serves all seeds.

    Args:
        finished: config of a run that is done.
        theirs: its folder.
        config: config of a run that is about to start.
        ours: its folder.
    """
    for count, stage in enumerate(STAGES[:-1], 1):
        like = dataclasses.replace(finished, seed=config.seed) if count == 1 else finished
        if changed_setting(like, config, STAGES[:count]) is not None:
            return
        for path in stage.files_in(theirs.path):
            target = ours.path / path.relative_to(theirs.path)
            if not target.exists():
                with path.open("rb") as original:
                    write_atomically(target, partial(shutil.copyfileobj, original))


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
