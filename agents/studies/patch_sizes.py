"""Table 3: patches of one size against patches of several, at equal budgets.

Each size of a config of several is trained on its own as well, with the same images, stages and steps. Thresholds are
found on the images for them and judged on the test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from agents.evaluation.accuracy_bound import AccuracyBound
from agents.evaluation.budgets import apply_exit_rule, fit_exit_rule, history_table
from agents.evaluation.record import EvaluationRecord
from agents.runs.claim import check_settings, claimed, locked
from agents.runs.config import RunConfig
from agents.runs.config_files import load_config
from agents.runs.fingerprint import load_run_record
from agents.runs.folder import RunFolder
from agents.runs.pipeline import Pipeline
from agents.runs.reporter import Reporter
from agents.studies.ablation import share_stages
from classifiers.files import write_json, write_text

NUM_BUDGETS = 8
"""Columns of the table."""

_SEVERAL = "several"  # the name of the run of several sizes
_METHODS = {"genetic algorithm": "genetic", "coordinate ascent": "coordinate_ascent"}


@dataclass(frozen=True)
class SizesRow:
    """A row of the table: one kind of networks with thresholds found in one way.

    Attributes:
        name: what the row shows.
        accuracy: (M,) on the test images at each budget, in [0, 1], averaged over the seeds.
        spread: (M,) its standard deviation over the seeds (of a sample; 0 for one seed).
        cost: (M,) multiply-adds per test image that were used, averaged over the seeds.
    """

    name: str
    accuracy: tuple[float, ...]
    spread: tuple[float, ...]
    cost: tuple[float, ...]


@dataclass(frozen=True)
class SizesTable:
    """Table 3 of a config.

    Attributes:
        budgets: (M,) multiply-adds per image, ascending.
        seeds: how many seeds.
        rows: each size alone, then the networks of several sizes, then what no thresholds of theirs can exceed.
    """

    budgets: tuple[float, ...]
    seeds: int
    rows: tuple[SizesRow, ...]


def compare_sizes(
    config: str, folder: Path, *, seeds: int, changes: Sequence[str], reporter: Reporter, genetic: bool = True
) -> SizesTable:
    """Trains the networks of several sizes and of each size alone, and writes `sizes.json` and `sizes.md`.

    Started again, it continues where it stopped; with more seeds, it adds them.

    Args:
        config: a YAML file with `patch_sizes`, or the name of a shipped one.
        folder: holds the runs, `several/seed_S` and `SIZE/seed_S`.
        seeds: how many seeds, from 0.
        changes: `key=value` changes to the config.
        reporter: shows progress.
        genetic: whether thresholds are found by the genetic algorithm too, which needs pymoo.

    Returns:
        The table.

    Raises:
        ImportError: if `genetic` and pymoo is not installed.
        ValueError: if there is one patch size only, a setting is wrong, or the folder holds runs with other settings.
        OSError: if the folder can't be written.
    """
    sizes = load_config(config, list(changes)).classifier.patch_sizes
    if len(sizes) == 1:
        raise ValueError(
            f"{config} has one patch size, {sizes[0]}; pass a config with patch_sizes, for example [32, 48, 64]"
        )
    if seeds < 1:
        raise ValueError(f"{seeds} seeds; pass 1 or more")
    kinds = {_SEVERAL: list[str](), **{str(side): [f"classifier.patch_size={side}"] for side in sizes}}
    configs = {
        (kind, seed): load_config(config, [*changes, *own, f"seed={seed}"])
        for seed in range(seeds)
        for kind, own in kinds.items()
    }
    methods = {title: method for title, method in _METHODS.items() if genetic or method != "genetic"}
    with locked(folder):
        for (kind, seed), each in configs.items():
            check_settings(_run_folder(folder, kind, seed), each)
        _train_all(configs, folder, reporter)
        table = _table(configs, folder, sizes, seeds, methods, reporter)
        write_json(folder / "sizes.json", asdict(table))
        write_text(folder / "sizes.md", sizes_table(table))
    return table


def _run_folder(folder: Path, kind: str, seed: int) -> Path:
    return folder / kind / f"seed_{seed}"


def _train_all(configs: dict[tuple[str, int], RunConfig], folder: Path, reporter: Reporter) -> None:
    done: list[tuple[RunConfig, RunFolder]] = []
    for (kind, seed), config in configs.items():
        files = RunFolder(_run_folder(folder, kind, seed))
        reporter.note(f"patches of {kind} size{'s' if kind == _SEVERAL else ''}, seed {seed}")
        with claimed(files.path, config):
            for finished, theirs in done:
                share_stages(finished, theirs, config, files)
            if not files.metrics.is_file():
                Pipeline(config, files.path, reporter).run(policies=["learned"])
        done.append((config, files))


def _table(
    configs: dict[tuple[str, int], RunConfig],
    folder: Path,
    sizes: Sequence[int],
    seeds: int,
    methods: dict[str, str],
    reporter: Reporter,
) -> SizesTable:
    def records(kind: str, seed: int) -> tuple[EvaluationRecord, EvaluationRecord]:
        path, config = _run_folder(folder, kind, seed), configs[kind, seed]
        return load_run_record(config, path, "calibration"), load_run_record(config, path, "learned")

    costs = records(_SEVERAL, 0)[0].multiply_adds
    budgets = np.geomspace(costs[0], costs.max(), NUM_BUDGETS + 1)[1:].tolist()
    reached: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        reporter.note(f"thresholds, seed {seed}")
        for side in sizes:
            found = _at_budgets(*records(str(side), seed), budgets, "coordinate_ascent")
            reached.setdefault(f"patches of {side}", []).append(found)
        calibration, test = records(_SEVERAL, seed)
        for title, method in methods.items():
            found = _at_budgets(calibration, test, budgets, method)
            reached.setdefault(f"several sizes, {title}", []).append(found)
        bound = AccuracyBound(history_table(test))
        reached.setdefault("several sizes, upper bound", []).append(
            np.array([[bound.at(budget) for budget in budgets], budgets])
        )
    return SizesTable(tuple(budgets), seeds, tuple(_row(name, np.array(values)) for name, values in reached.items()))


def _at_budgets(
    calibration: EvaluationRecord, test: EvaluationRecord, budgets: Sequence[float], method: str
) -> np.ndarray:
    """(2, M): accuracy and cost on the test images. Of a budget, the networks use what they can."""
    most = float(calibration.multiply_adds.max())
    rules = [fit_exit_rule(calibration, min(budget, most), method=method) for budget in budgets]
    figures = [apply_exit_rule(test, rule) for rule in rules]
    return np.array([[figure.accuracy for figure in figures], [figure.cost for figure in figures]])


def _row(name: str, values: np.ndarray) -> SizesRow:
    """Of (seeds, 2, M)."""
    accuracy, cost = values[:, 0], values[:, 1]
    spread = accuracy.std(axis=0, ddof=1) if len(accuracy) > 1 else np.zeros(accuracy.shape[1])
    return SizesRow(
        name, tuple(accuracy.mean(axis=0).tolist()), tuple(spread.tolist()), tuple(cost.mean(axis=0).tolist())
    )


def sizes_table(table: SizesTable) -> str:
    """The table as Markdown: mean and standard deviation over the seeds of the accuracy at each budget, in percent."""
    heads = [f"{budget / 1e6:.1f} M" for budget in table.budgets]
    lines = [
        f"| {table.seeds} seed{'s' if table.seeds > 1 else ''} | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
    ]
    for row in table.rows:
        cells = [
            f"{100 * mean:.1f} ± {100 * spread:.1f}" if table.seeds > 1 else f"{100 * mean:.1f}"
            for mean, spread in zip(row.accuracy, row.spread, strict=True)
        ]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
