"""What it is worth to observe the earlier looks: the demo with and without `locations` and `progress`, over several
seeds; prints the table of docs/observations.md.

    python benchmarks/observations.py [--out runs/observations] [--seeds 3]

Everything but agent, observation and seed is the demo's. It may be interrupted: finished runs stay in the folder, and
the unfinished one continues.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from scripts.cli import main as gfnet

AGENTS = ("ppo", "ppo_gru")
OBSERVATIONS = {"all": "features, hidden, locations, progress", "old": "features, hidden"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/observations"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    runs = {
        (agent, name): [_metrics(options.out, agent, name, seed) for seed in range(options.seeds)]
        for agent in AGENTS
        for name in OBSERVATIONS
    }
    lines = ["| agent | observes | t=2 | t=3 | t=4 |", "|---|---|---|---|---|"]
    for (agent, name), found in runs.items():
        accuracies = [run["accuracy"]["learned"] for run in found]
        lines.append(f"| {agent} | {OBSERVATIONS[name]} | {_by_step(accuracies)} |")
    for policy in ("random", "centre_corner", "oracle"):
        accuracies = [run["accuracy"][policy] for run in runs[AGENTS[0], "all"]]
        lines.append(f"| {policy.replace('_', '-')} | | {_by_step(accuracies)} |")
    print("\n".join(lines))


def _metrics(folder: Path, agent: str, name: str, seed: int) -> dict[str, Any]:
    """The results of a run, which is trained unless it is finished."""
    out = folder / name / f"{agent}_{seed}"
    keys = OBSERVATIONS[name].replace(" ", "")
    changes = [f"stage2.agent={agent}", f"seed={seed}", f"stage2.episode.observe=[{keys}]"]
    sets = [part for change in changes for part in ("--set", change)]
    if not (out / "metrics.json").is_file() and gfnet(["train", "demo", "--out", str(out), *sets]):
        raise SystemExit(1)
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def _by_step(accuracies: list[list[float]]) -> str:
    return " | ".join(_spread([accuracy[step] for accuracy in accuracies]) for step in (1, 2, 3))


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.3f}"


if __name__ == "__main__":
    main()
