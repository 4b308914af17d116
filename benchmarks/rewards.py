"""Contrastive against increment reward (Table 2) on the embedded task, over several seeds; writes docs/rewards.md.

    python benchmarks/rewards.py [--seeds 3] [--env-steps 100000]

All settings but the reward and the seed are the demo's. Can be interrupted: finished runs stay in runs/rewards/.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from scripts.cli import main as gfnet

REWARDS = ("increment", "contrastive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--env-steps", type=int, default=100_000)
    options = parser.parse_args()
    by_reward = {reward: [_run(reward, seed, options.env_steps) for seed in range(options.seeds)] for reward in REWARDS}
    lines = [
        "# Contrastive against increment reward",
        "",
        f"Made by `python benchmarks/rewards.py --seeds {options.seeds} --env-steps {options.env_steps}`: the demo's",
        f"settings, accuracy on {by_reward['increment'][0]['images']:,} held-out scenes, mean and standard deviation",
        f"over {options.seeds} seeds.",
        "",
        "| reward | t=2 | t=3 | t=4 | first focus finds the sign | seconds of a run |",
        "|---|---|---|---|---|---|",
    ]
    for reward, runs in by_reward.items():
        cells = [_spread([run["accuracy"]["learned"][t] for run in runs]) for t in (1, 2, 3)]
        cells.append(_spread([run["pointing_game"]["learned"][0] for run in runs]))
        cells.append(f"{statistics.mean(run['seconds'] for run in runs):.0f}")
        lines.append(f"| {reward} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent.parent / "docs" / "rewards.md").write_text(text)
    print(text)


def _run(reward: str, seed: int, env_steps: int) -> dict[str, Any]:  # the metrics
    out = Path("runs") / "rewards" / f"{reward}-{seed}-{env_steps}"
    changes = {"stage2.episode.reward": reward, "seed": seed, "stage2.env_steps": env_steps, "oracle_grid": 2}
    sets = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    if gfnet(["demo", "--out", str(out), *sets]):
        raise SystemExit(1)
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.3f}"


if __name__ == "__main__":
    main()
