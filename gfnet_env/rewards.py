"""The two rewards of the paper, as functions of true-label probabilities."""

from __future__ import annotations

from torch import Tensor

REWARDS = ("contrastive", "increment")
"""Names of the rewards: Eq. (8) and Eq. (4)."""


def increment_reward(probability: Tensor, previous_probability: Tensor) -> Tensor:
    """r_{t+1} = p_{(t+1)y} - p_{ty}, Eq. (4).

    Args:
        probability: (B,) softmax probability of the true label after the step.
        previous_probability: (B,) the same before it.

    Returns:
        (B,) in [-1, 1].
    """
    return probability - previous_probability


def contrastive_reward(probability: Tensor, random_probabilities: Tensor) -> Tensor:
    """r_{t+1} = p_{(t+1)y} - E[p_{(t+1)y} under a random crop], Eq. (8).

    Args:
        probability: (B,) softmax probability of the true label after the step.
        random_probabilities: (S, B) the same after each of S random patches instead; their mean estimates the
            expectation (the paper takes S = 1, Section 5.2.4).

    Returns:
        (B,) in [-1, 1].
    """
    return probability - random_probabilities.mean(dim=0)
