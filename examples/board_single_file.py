"""PPO in one file on the leaderboard: an algorithm without a library, `scripts/ppo_single_file.py`, on any task.

gfnet benchmark ppo --external examples.board_single_file:train --steps 30000 --out runs/comparison
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from scripts.ppo_single_file import Agent, Arguments, collect, update

Act = Callable[[dict[str, np.ndarray]], np.ndarray]


def train(make_env: Callable[..., Any], steps: int, seed: int) -> Act:
    """Trains an agent; returns its mean action for the observations of B rows."""
    torch.manual_seed(seed)
    envs = make_env(256)  # autoreset SAME_STEP
    args = Arguments(total_steps=steps, seed=seed, num_glimpses=envs.num_glimpses)
    agent = Agent(envs.single_observation_space)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    observation, _ = envs.reset(seed=seed)
    rollouts = -(-steps // args.rollout_steps)
    for done in range(rollouts):
        std = args.first_std * (args.last_std / args.first_std) ** (done / rollouts)
        rollout, observation = collect(envs, agent, observation, std, args.num_glimpses - 1)
        update(agent, optimizer, rollout, std, args)
    return agent.act
