"""Table 3: patches of several sizes against each size alone, at equal budgets.

    python benchmarks/patch_sizes.py CONFIG --out FOLDER [--seeds 3] [--set KEY=VALUE ...] [--no-genetic]

Each size of a config with `patch_sizes` is trained on its own as well, with the same images, stages and steps.
Thresholds are found on the images for them and judged on the test images. Started again, the program continues where it
stopped. Prints a Markdown table: accuracy in percent at each budget, mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ablation import Runs, add_options, cells, train_all

from agents.evaluation.accuracy_bound import AccuracyBound
from agents.evaluation.budgets import apply_exit_rule, fit_exit_rule, history_table
from agents.evaluation.record import EvaluationRecord, load_record
from agents.runs.config_files import load_config
from agents.runs.folder import RunFolder
from scripts.console import PlainConsole
from scripts.progress import TerminalReporter

NUM_BUDGETS = 8
SEVERAL = "several"
METHODS = {"coordinate ascent": "coordinate_ascent", "genetic algorithm": "genetic"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a YAML file with patch_sizes, or the name of a config")
    add_options(parser)
    parser.add_argument("--no-genetic", action="store_true", help="leave out the genetic algorithm, which needs pymoo")
    options = parser.parse_args()
    sizes = load_config(options.config, options.set).classifier.patch_sizes
    if len(sizes) == 1:
        parser.error(f"{options.config} has one patch size; pass a config with patch_sizes")
    kinds = {SEVERAL: list[str](), **{str(side): [f"classifier.patch_size={side}"] for side in sizes}}
    runs = {
        (kind, seed): load_config(options.config, [*options.set, *own, f"seed={seed}"])
        for seed in range(options.seeds)
        for kind, own in kinds.items()
    }
    with TerminalReporter(PlainConsole(stderr=True), quiet=False) as reporter:
        train_all(runs, options.out, reporter, ["learned"])
        methods = {title: name for title, name in METHODS.items() if not (options.no_genetic and name == "genetic")}
        budgets, accuracy = judge(runs, options.out, methods)
    heads = [f"{budget / 1e6:.1f} M" for budget in budgets]
    lines = [f"| {options.seeds} seeds | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    lines += [f"| {name} | {' | '.join(cells(values, 100.0, 1))} |" for name, values in accuracy.items()]
    table = "\n".join(lines) + "\n"
    content = {"budgets": budgets, "accuracy": {name: values.tolist() for name, values in accuracy.items()}}
    (options.out / "sizes.json").write_text(json.dumps(content, indent=1))
    (options.out / "sizes.md").write_text(table, encoding="utf-8")
    print(table)


def judge(runs: Runs, folder: Path, methods: dict[str, str]) -> tuple[list[float], dict[str, np.ndarray]]:
    """The M budgets, and by row the (seeds, M) accuracy on the test images that its thresholds reach."""

    def record(kind: str, seed: int, name: str) -> EvaluationRecord:
        return load_record(RunFolder(folder / kind / f"seed_{seed}").record(name))

    costs = record(SEVERAL, 0, "calibration").multiply_adds
    budgets = np.geomspace(costs[0], costs.max(), NUM_BUDGETS + 1)[1:].tolist()
    rows: dict[str, list[list[float]]] = {}
    for kind, seed in sorted(runs, key=lambda run: (run[1], run[0] == SEVERAL)):
        calibration, test = record(kind, seed, "calibration"), record(kind, seed, "learned")
        if kind == SEVERAL:
            for title, method in methods.items():
                found = at_budgets(calibration, test, budgets, method)
                rows.setdefault(f"several sizes, {title}", []).append(found)
            bound = AccuracyBound(history_table(test))
            rows.setdefault("several sizes, upper bound", []).append([bound.at(budget) for budget in budgets])
        else:
            found = at_budgets(calibration, test, budgets, "coordinate_ascent")
            rows.setdefault(f"patches of {kind}", []).append(found)
    return budgets, {name: np.array(values) for name, values in rows.items()}


def at_budgets(calibration: EvaluationRecord, test: EvaluationRecord, budgets: list[float], method: str) -> list[float]:
    """Accuracy on the test images; of a budget, the networks use what they can."""
    most = float(calibration.multiply_adds.max())
    rules = [fit_exit_rule(calibration, min(budget, most), method=method) for budget in budgets]
    return [apply_exit_rule(test, rule).accuracy for rule in rules]


if __name__ == "__main__":
    main()
