"""Runs kept image by image, and the tables of docs/real_photos.md, results.md and ablations.md made from them.

    python benchmarks/kept_runs.py add NAME RUN [RUN ...]
    python benchmarks/kept_runs.py page

`add` keeps, in docs/kept_runs.csv, which test images each policy of a run recognizes after each look, which ones the
full-resolution network recognizes, and which ones early exits do: their thresholds are found on validation images, to
be as accurate there as that network. `page` makes the tables: means over the runs, with 95 % intervals from a bootstrap
over groups of images (those of `data.groups` or `groups.csv`; else each image is a group), the same ones for all sides
of a difference. Names such as `rewards.increment` are rows of one table, `rewards`, whose first row the others are
compared with.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measured import DOCS, Row, append, fill, read

from agents.evaluation.budgets import history_table
from agents.evaluation.record import load_record
from agents.runs.config import RunConfig
from agents.runs.folder import RunFolder, read_metrics
from agents.runs.images import open_images
from agents.runs.run import LoadedRun, load_run
from classifiers.data.file_tree import class_files
from classifiers.data.groups import GROUPS_FILE, match_groups, read_groups
from classifiers.files import write_text

ROWS, PAGES = DOCS / "kept_runs.csv", tuple(DOCS / f"{name}.md" for name in ("real_photos", "results", "ablations"))
POLICIES = {
    "random": "random places",
    "center_corner": "center, then corners",
    "best_fixed_place": "best fixed places",
    "learned": "learned",
    "oracle": "oracle",
}
FULL, EXITS = "full_resolution", "early_exits"
_RESAMPLES = 2000
_EVERY = 4  # budget of a curve is kept

Side = tuple[str, int]
"""A policy, and how many looks it has taken."""


@dataclass(frozen=True)
class KeptRun:
    """What is kept of a run, for N test images.

    Attributes:
        seed: of the run.
        right: by policy, (T, N) whether it recognizes each image after each look; (1, N) of `FULL`, the full-resolution
            network, and of `EXITS`, unless no thresholds are as accurate as that on the validation images.
        exits_cost: multiply-adds of an image with early exits, on average; None without thresholds.
        costs: (T,) multiply-adds up to each look.
        full_cost: multiply-adds of the full-resolution network.
        curves: by exit criterion, and for coordinate ascent on the confidence: budgets in multiply-adds, accuracies,
            and expected numbers of looks, (M,) each.
        groups: (N,) the group of each image.
        row: where it is kept.
    """

    seed: int
    right: dict[str, np.ndarray]
    exits_cost: float | None
    costs: list[int]
    full_cost: int
    curves: dict[str, list[list[float]]]
    groups: np.ndarray
    row: Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    add, page = parts.add_parser("add"), parts.add_parser("page")
    add.add_argument("name", help="of the tables that the runs are for")
    add.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    for part in (add, page):
        part.add_argument("--rows", type=Path, default=ROWS, metavar="FILE", help="of the rows")
    options = parser.parse_args()
    if options.part == "page":
        rows = read(options.rows)
        for path in PAGES:
            write_text(path, filled_page(path.read_text(encoding="utf-8"), rows))
        return
    for run in options.runs:
        append(options.rows, kept_row(options.name, run))


def kept_row(name: str, folder: Path) -> Row:
    """What is kept of a finished run."""
    run, files, metrics = load_run(folder), RunFolder(folder), read_metrics(folder)
    right = {FULL: packed(full_right(run)[None])}
    cells: dict[str, Any] = {"seed": run.config.seed, "right": right, "costs": metrics["multiply_adds"]["cumulative"]}
    for policy in metrics["accuracy"]:
        record = load_record(files.record(policy))
        right[policy] = packed((record.prediction == record.label[:, None]).T)
    learned, match = load_record(files.record("learned")), metrics["adaptive"]["match"]
    if match is not None:
        thresholds = np.array([[np.inf if one is None else one for one in row] for row in match["thresholds"]])
        table = history_table(learned)
        ends = table.exits(thresholds)
        right[EXITS] = packed(table.is_right[None, np.arange(len(ends)), ends])
        cells["exits_cost"] = match["multiply_adds"]
    fields = ("budgets", "accuracies", "expected_lengths")
    curves = metrics["adaptive"]["curves"].items()
    cells["curves"] = {name: [curve[field][::_EVERY] for field in fields] for name, curve in curves}
    groups = (
        image_groups(run.config, run.class_names)
        if run.config.data.kind == "image_folder"
        else list(range(len(learned.label)))
    )
    if len(set(groups)) < len(groups):
        cells["groups"] = groups
    cells |= {"images": len(learned.label), "full_cost": metrics["multiply_adds"]["full_resolution"]}
    made = {key: metrics["made_by"][key] for key in ("version", "commit", "torch", "device", "date", "command")}
    return Row(name, json.dumps(cells), **made, machine=f"threads: {torch.get_num_threads()}")


def image_groups(config: RunConfig, class_names: tuple[str, ...]) -> list[int]:
    """The group of each test photo of a tree, numbered in the order of their first photos."""
    data: Any = config.data
    root = Path(data.root)
    files = class_files(root / "test", "image", class_names)[0]
    named: dict[str, str] = {}
    if data.groups:
        named = match_groups(data.groups, {"test": [str(file) for file in files]}, root)
    elif (table := root / GROUPS_FILE).is_file():
        named = read_groups(table)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(named.get(str(file), str(file)), len(numbers)) for file in files]


@torch.inference_mode()
def full_right(run: LoadedRun) -> np.ndarray:
    """(N,) whether the full-resolution network recognizes each test image."""
    network, source = run.full_resolution, open_images(run.config, "test")
    assert network is not None
    found = []
    for indices in torch.arange(len(source)).split(50):
        batch = source.fetch(indices)
        found.append(network.eval()(batch.images.to(network.device)).argmax(dim=1).cpu() == batch.labels)
    return torch.cat(found).numpy()


def packed(right: np.ndarray) -> list[str]:
    """Rows of booleans as hexadecimal digits."""
    return [np.packbits(row).tobytes().hex() for row in right]


def unpacked(rows: list[str], count: int) -> np.ndarray:
    """(T, N) booleans that `packed` wrote."""
    found = [np.unpackbits(np.frombuffer(bytes.fromhex(row), np.uint8), count=count) for row in rows]
    return np.stack(found).astype(bool)


def kept_run(row: Row) -> KeptRun:
    """Reads what `kept_row` made."""
    cells = json.loads(row.cells)
    count = cells["images"]
    return KeptRun(
        seed=cells["seed"],
        right={name: unpacked(rows, count) for name, rows in cells["right"].items()},
        exits_cost=cells.get("exits_cost"),
        costs=cells["costs"],
        full_cost=cells["full_cost"],
        curves=cells["curves"],
        groups=np.array(cells.get("groups", range(count))),
        row=row,
    )


def filled_page(text: str, rows: Sequence[Row]) -> str:
    """A page with the tables of its rows: of runs with the same name and seed, the last."""
    runs: dict[str, dict[int, KeptRun]] = defaultdict(dict)
    for row in rows:
        run = kept_run(row)
        runs[row.table][run.seed] = run
    named = {name: list(by_seed.values()) for name, by_seed in runs.items()}

    def found(name: str) -> str:
        rows = {each.removeprefix(f"{name}."): of for each, of in named.items() if each.startswith(f"{name}.")}
        return comparison(rows) if rows else tables(named[name])

    return fill(text, found)


def comparison(rows: dict[str, list[KeptRun]]) -> str:
    """A table with a row for each variant: the learned policy's accuracy, and how far it is from the first row's."""
    first, *_ = rows
    last = len(rows[first][0].costs)
    steps = range(1, last + 1)
    lines = [
        f"| | seeds |{''.join(f' t={step} |' for step in steps)} difference at t={last} |",
        f"|{'---|' * (last + 3)}",
    ]
    for name, runs in rows.items():
        seeds = {run.seed for run in runs}
        pairs = [(run, one) for run in runs for one in rows[first] if run.seed == one.seed]
        apart = "" if name == first or not pairs else difference(pairs, ("learned", last))
        cells = [with_interval(runs, ("learned", step)) for step in steps]
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} | {apart} |")
    made = "; ".join(f"{name}: commit {of[0].row.commit[:7]}, `{of[0].row.command}`" for name, of in rows.items())
    return "\n".join(
        [*lines, "", f"({len(rows[first][0].groups)} test images; version {rows[first][0].row.version}; {made})"]
    )


def tables(runs: Sequence[KeptRun]) -> str:
    """The tables of some runs of one config that differ by their seeds."""
    last = len(runs[0].costs)
    steps = range(1, last + 1)
    lines = ["| policy |" + "".join(f" t={step} |" for step in steps), "|---|" + "---|" * last]
    for policy, title in POLICIES.items():
        if all(policy in run.right for run in runs):
            lines.append(f"| {title} | {' | '.join(with_interval(runs, (policy, step)) for step in steps)} |")
    lines.append(f"| million multiply-adds | {' | '.join(f'{cost / 1e6:.1f}' for cost in runs[0].costs)} |")
    pairs: dict[str, tuple[Side, Side]] = {
        "learned - center, then corners, t=2": (("learned", 2), ("center_corner", 2)),
        "learned - random places, t=2": (("learned", 2), ("random", 2)),
        "center, then corners - random places, t=2": (("center_corner", 2), ("random", 2)),
        f"learned, t={last} - full-resolution network": (("learned", last), (FULL, 1)),
        "early exits - full-resolution network": ((EXITS, 1), (FULL, 1)),
    }
    lines += ["", "| difference | |", "|---|---|"]
    for what, (side, other) in pairs.items():
        if all(side[0] in run.right for run in runs):
            lines.append(f"| {what} | {with_interval(runs, side, other)} |")
    lines += ["", "| seed | full-resolution network | early exits | times fewer multiply-adds |", "|---|---|---|---|"]
    for run in runs:
        full = f"{run.right[FULL].mean():.3f} for {run.full_cost / 1e6:.1f} M"
        if run.exits_cost is None:
            lines.append(f"| {run.seed} | {full} | none are as accurate on the validation images | |")
        else:
            exits = f"{run.right[EXITS].mean():.3f} for {run.exits_cost / 1e6:.1f} M"
            is_as_accurate = run.right[EXITS].mean() >= run.right[FULL].mean()
            fewer = f"{run.full_cost / run.exits_cost:.2f}" if is_as_accurate else "less accurate"
            lines.append(f"| {run.seed} | {full} | {exits} | {fewer} |")
    lines += ["", *curve_lines(runs)]
    made = "; ".join(f"commit {run.row.commit[:7]}: `{run.row.command}`" for run in runs)
    count, groups = len(runs[0].groups), len(set(runs[0].groups.tolist()))
    sizes = f"{count} test images" + (f" of {groups} groups" if groups < count else "")
    return "\n".join([*lines, "", f"({sizes}; version {runs[0].row.version}, {made})"])


def curve_lines(runs: Sequence[KeptRun]) -> list[str]:
    """Accuracy under budgets by exit criterion (Table 7), and the expected numbers of looks (Fig. 15)."""
    budgets = runs[0].curves["confidence"][0]
    lines = [f"| exits by | {' | '.join(f'{budget / 1e6:.0f} M' for budget in budgets)} |"]
    lines.append(f"|---|{'---|' * len(budgets)}")
    for name in runs[0].curves:
        _, accuracies, lengths = np.mean([run.curves[name] for run in runs], axis=0)
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(f'{each:.3f}' for each in accuracies)} |")
        if name == "confidence":
            looks = f"| looks, by confidence | {' | '.join(f'{each:.2f}' for each in lengths)} |"
    return [*lines, looks]


def with_interval(runs: Sequence[KeptRun], side: Side, other: Side | None = None) -> str:
    """A mean over runs and images, or that of a difference, and its 95 % interval over groups of images."""
    values = np.mean([_values(run, side) - (_values(run, other) if other else 0.0) for run in runs], axis=0)
    return _estimate(values, runs[0].groups)


def difference(pairs: Sequence[tuple[KeptRun, KeptRun]], side: Side) -> str:
    """The mean difference between runs of one seed and its 95 % interval over groups of images."""
    return _estimate(
        np.mean([_values(run, side) - _values(one, side) for run, one in pairs], axis=0), pairs[0][0].groups
    )


def _estimate(values: np.ndarray, named: np.ndarray) -> str:
    groups = np.unique(named, return_inverse=True)[1]
    sums, counts = np.bincount(groups, values), np.bincount(groups)
    drawn = np.random.default_rng(0).integers(len(counts), size=(_RESAMPLES, len(counts)))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (2.5, 97.5))
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def _values(run: KeptRun, side: Side) -> np.ndarray:
    policy, step = side
    values: np.ndarray = run.right[policy][step - 1].astype(np.float64)
    return values


if __name__ == "__main__":
    main()
