"""What a policy's decision costs."""

from __future__ import annotations

import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.fixed_agents import FixedAgent
from agents.proposal_network import GlimpsePolicy
from classifiers.multiply_adds import count_multiply_adds


def policy_multiply_adds(agent: OnPolicyAlgorithm | FixedAgent) -> int:
    """Multiply-adds of one deterministic decision for one image; the value is not needed for it and not counted.

    Args:
        agent: with a policy of ours.

    Returns:
        Multiply-adds.

    Raises:
        TypeError: if the policy is not one of ours.
    """
    if isinstance(agent, FixedAgent):
        return 0
    policy = agent.policy
    if not isinstance(policy, GlimpsePolicy):
        raise TypeError(f"the policy is a {type(policy).__name__}; pass an agent of `agents.make_agent`")
    space = agent.observation_space
    observation = {key: torch.zeros(1, *part.shape, device=policy.device) for key, part in space.items()}  # type: ignore[attr-defined]  # a Dict space
    return count_multiply_adds(policy, lambda: policy.mean_action(observation))
