"""An agent that chooses sizes and when to stop against thresholds, at equal budgets, on a run of several sizes.

    python benchmarks/size_action.py RUN [--prices 0.02 0.1 0.3] [--env-steps 100000] [--seed 0]

For each price, a new PPO agent is trained on the run's frozen networks with `size_action`, `stop_action` and
`step_cost="multiply_adds"`. What it spends on the test images is then the budget of the run's own thresholds, which are
found on the images for them. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

import agents
from agents.algorithms.stage2 import train_agent
from agents.evaluation.budgets import apply_exit_rule, fit_exit_rule
from agents.evaluation.record import load_record
from agents.runs.folder import RunFolder
from agents.runs.images import open_images
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task
from gfnet_env.dynamics import to_numpy
from gfnet_env.sampling import RowDraws


class Reached(NamedTuple):
    """What an agent reaches on the test images.

    Attributes:
        accuracy: in [0, 1].
        cost: multiply-adds per image on average, those of its decisions included.
        size_shares: (K,) fraction of the patches that have each size; zeros without patches.
        looks: patches per image.
    """

    accuracy: float
    cost: float
    size_shares: np.ndarray
    looks: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--prices", type=float, nargs="+", default=[0.02, 0.1, 0.3])
    parser.add_argument("--env-steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = agents.load_run(options.run)
    calibration, record = (load_record(RunFolder(options.run).record(name)) for name in ("calibration", "learned"))
    print("| price | multiply-adds | patches per image | shares of the sizes | accuracy | of thresholds |")
    print("|---|---|---|---|---|---|")
    for price in options.prices:
        agent, env = trained(run, price, options.env_steps, options.seed)
        found = reached(agent, env, run)
        budget = float(np.clip(found.cost, calibration.multiply_adds[0], calibration.multiply_adds.max()))
        thresholds = apply_exit_rule(record, fit_exit_rule(calibration, budget))
        shares = " / ".join(f"{100 * share:.0f}" for share in found.size_shares)
        print(
            f"| {price} | {found.cost / 1e6:.1f} M | {found.looks:.2f} | {shares} % | {100 * found.accuracy:.1f} % | "
            f"{100 * thresholds.accuracy:.1f} % ({thresholds.cost / 1e6:.1f} M) |",
            flush=True,
        )


def trained(
    run: agents.LoadedRun, price: float, env_steps: int, seed: int
) -> tuple[BaseAlgorithm, GlanceFocusVectorEnv]:
    """An agent that chooses sizes and when to stop, trained on a run, and an environment of the run's test images."""
    rules = EpisodeSpec(reward="increment", size_action=True, stop_action=True, step_cost="multiply_adds", price=price)
    task = Task(open_images(run.config, "train"), run.classifier)
    env = GlanceFocusVectorEnv(task, rules, num_envs=64, autoreset_mode="SAME_STEP")
    agent = agents.make_agent("ppo", env, policy_kwargs=run.config.stage2.policy_options, seed=seed)
    train_agent(agent, env_steps, seed=seed)
    task = Task(open_images(run.config, "test"), run.classifier)
    return agent, GlanceFocusVectorEnv(task, rules, num_envs=len(task.source), autoreset_mode="DISABLED")


def reached(agent: BaseAlgorithm, env: GlanceFocusVectorEnv, run: agents.LoadedRun) -> Reached:
    """Lets an agent act on every test image at once, without exploration noise."""
    dynamics, sides = env.dynamics, run.classifier.spec.patch_sizes
    observation, info = env.reset(seed=0, options={"index": np.arange(env.num_envs)})
    going, decisions = np.ones(env.num_envs, dtype=bool), np.zeros(env.num_envs, np.int64)
    patches = np.zeros(len(sides))
    while going.any():
        actions, _ = agent.predict(observation, deterministic=True)
        _, over = dynamics.step(going, dynamics.decisions(actions), RowDraws(1, env.num_envs))
        observation, info = to_numpy(dynamics.observation()), to_numpy(dynamics.info())
        decisions += going
        looked = going & ~info["stopped"]
        patches += [(info["patch_size"][looked] == side).sum() for side in sides]
        going &= ~over.numpy()
    cost = info["multiply_adds"] + decisions * agents.DeterministicPolicy(agent).multiply_adds
    shares, looks = patches / max(patches.sum(), 1.0), float(patches.sum() / env.num_envs)
    return Reached(float(dynamics.is_right().float().mean()), float(cost.mean()), shares, looks)


if __name__ == "__main__":
    main()
