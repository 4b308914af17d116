"""Behavior cloning of a Minari data set: `pip install 'gfnet-gym[minari]'`.

The data set must hold observations. Where there is none of that name, episodes of the reference are recorded first.

python examples/behavior_cloning.py --episodes 2000 --epochs 30
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import minari
import numpy as np
import torch
from torch.nn.functional import mse_loss

import agents
from agents.dataset import record_dataset
from gfnet_env.registration import make_env


def clone(dataset: minari.MinariDataset, epochs: int) -> Any:
    """Trains our policy network to predict the data set's actions; returns the agent."""
    env = dataset.recover_environment()
    agent = agents.make_agent("ppo", env, seed=0)
    policy: Any = agent.policy
    episodes = list(dataset.iterate_episodes())
    observations = {
        key: torch.from_numpy(np.concatenate([episode.observations[key][:-1] for episode in episodes]))
        for key in env.observation_space  # without those after the last step, where nothing is decided
    }
    actions = torch.from_numpy(np.concatenate([episode.actions for episode in episodes]))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    policy.set_training_mode(True)
    for epoch in range(epochs):
        losses = []
        for rows in torch.randperm(len(actions)).split(256):
            predicted, _ = policy.mean_action({key: values[rows] for key, values in observations.items()})
            loss = mse_loss(predicted, actions[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}", flush=True)
    return agent


def main() -> None:
    """Clones a policy and compares it with random places on held-out images."""
    parser = argparse.ArgumentParser(description="Behavior cloning of a Minari data set.")
    parser.add_argument("--env", default="GFNet-SyntheticSigns-v0")
    parser.add_argument("--name", default="gfnet/signs/reference-v0")
    parser.add_argument("--episodes", type=int, default=2000, help="recorded if there is no data set of that name")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--test-scenes", type=int, default=800)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.name not in minari.list_local_datasets():
        record_dataset(options.env, options.name, num_episodes=options.episodes, observations=True)
    agent = clone(minari.load_dataset(options.name), options.epochs)
    task = make_env(options.env, split="test", num_scenes=options.test_scenes).unwrapped.task
    for name, policy in (("random", agents.RandomPolicy()), ("cloned", agents.DeterministicPolicy(agent))):
        shares = agents.accuracy_by_step(agents.evaluate(task.classifier, task.source, policy))
        print(name, ", ".join(f"t={step}: {share:.3f}" for step, share in enumerate(shares, 1)))


if __name__ == "__main__":
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    main()
