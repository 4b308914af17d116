"""What a policy's decision costs."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.policies.fixed_agents import FixedAgent
from agents.policies.protocol import decide
from classifiers.networks.costs import count_multiply_adds


def policy_multiply_adds(agent: BaseAlgorithm | FixedAgent) -> int:
    """Multiply-adds of one deterministic decision for one image; the value is not needed for it and not counted.

    Args:
        agent: any agent on an environment of ours.

    Returns:
        Multiply-adds.
    """
    if isinstance(agent, FixedAgent):
        return 0
    policy = agent.policy
    policy.set_training_mode(False)
    space = policy.observation_space
    parts = space if isinstance(space, spaces.Dict) else {"features": space, "hidden": spaces.Box(-1.0, 1.0, (0,))}
    observation = {key: torch.zeros(1, *(part.shape or ()), device=policy.device) for key, part in parts.items()}
    return count_multiply_adds(policy, lambda: decide(policy, observation, None))
