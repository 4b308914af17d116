"""TorchRL's PPO on the leaderboard (extra `torchrl`): the parts of `examples/torchrl_ppo.py` on any task.

gfnet benchmark ppo --external examples.board_torchrl:train --steps 30000 --out runs/comparison
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import ExplorationType, GymWrapper, set_exploration_type
from torchrl.modules import ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from examples.torchrl_ppo import Network, make_policy


def train(make_env: Callable[..., Any], steps: int, seed: int) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Trains a policy; returns its most likely action for the observations of B rows."""
    torch.manual_seed(seed)
    envs = make_env(256, autoreset_mode="DISABLED")  # TorchRL resets finished rows itself
    env, space = GymWrapper(envs), envs.single_observation_space
    env.set_seed(seed)
    policy, value = make_policy(space), ValueOperator(Network(space, 1), in_keys=list(space))
    advantages = GAE(gamma=0.7, lmbda=1.0, value_network=value)
    loss = ClipPPOLoss(policy, value, entropy_bonus=False, critic_coeff=0.5, normalize_advantage=True)
    optimizer = torch.optim.Adam(loss.parameters(), lr=2e-3)
    rollout = 256 * (envs.num_glimpses - 1)
    frames = {"frames_per_batch": rollout, "total_frames": -(-steps // rollout) * rollout}
    for data in Collector(env, policy, **frames, auto_register_policy_transforms=False):
        with torch.no_grad():
            advantages(data)
        taken = data.reshape(-1)
        for minibatch in [part for _ in range(4) for part in torch.randperm(rollout).chunk(3)]:
            losses = loss(taken[minibatch])
            optimizer.zero_grad()
            (losses["loss_objective"] + losses["loss_critic"]).backward()
            nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
            optimizer.step()

    @torch.no_grad()
    def act(observation: dict[str, np.ndarray]) -> np.ndarray:
        seen = TensorDict({key: torch.from_numpy(observation[key]) for key in space}, len(observation["hidden"]))
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            return policy(seen)["action"].clamp(-1, 1).numpy()

    return act
