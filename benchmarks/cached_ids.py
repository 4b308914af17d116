"""Whether a cached id ranks agents as the id without Cached does, and whether its policies work there.

    gfnet benchmark AGENT ... --task ID ID-CACHED --steps STEPS --seeds N --out runs/board
    python benchmarks/cached_ids.py runs/board

Prints for each cached id Kendall's tau over the agents' mean scores on both ids, and for each policy that was trained
on the cached id its accuracy there and on the other, on 1,000 test scenes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau

from agents.algorithms.make_agent import as_sb3
from agents.algorithms.registry import AGENTS
from agents.evaluation.play import Played, play
from agents.leaderboard.rows import read_rows
from agents.leaderboard.tables import Board
from agents.leaderboard.trainers import MakeEnv
from agents.leaderboard.training import TrainingSpec
from agents.policies.weights import load_policy
from agents.runs.config import Stage2Spec
from agents.runs.run import new_agent


def main() -> None:
    """Compares both ids of each pair in a leaderboard's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a leaderboard")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    board = Board.of(read_rows(folder / "rows.csv"))
    for cached in (task for task in board.tasks if "-Cached" in task):
        env_id = cached.replace("-Cached", "")
        names = [name for name in board.agents(env_id) if board.runs(cached, name) and name != "reference"]
        scores = [
            [np.mean([run.value for run in board.runs(task, name)]) for name in names] for task in (env_id, cached)
        ]
        print(f"{cached}: Kendall's tau {kendalltau(*scores).statistic:.2f} over {len(names)} agents")
        for name, here, there in zip(names, *scores, strict=True):
            print(f"  {name}: score {here:.3f}, cached {there:.3f}")
        for path in sorted((folder / cached).glob("*/seed_*/policy.safetensors")):
            own, other = (played_by(path, task).accuracy[-1] for task in (cached, env_id))
            print(f"  {path.parent.relative_to(folder / cached)}: accuracy {own:.3f} there, {other:.3f} without Cached")


def played_by(path: Path, env_id: str) -> Played:
    """A leaderboard's policy on the test scenes of an id, perhaps another than the one that it was trained on."""
    spec = TrainingSpec(**json.loads((path.parent / "training.json").read_bytes()))
    make_env = MakeEnv(env_id, spec.rules)
    stage2 = Stage2Spec(
        env_steps=spec.steps, agent=spec.agent, options=spec.options, policy_options=spec.policy_options
    )
    agent = load_policy(path, new_agent(make_env(1), stage2, 0, prefix=""))
    return play(as_sb3(make_env(100, split="test"), AGENTS[spec.agent].form), agent, max_images=spec.test_images)


if __name__ == "__main__":
    main()
