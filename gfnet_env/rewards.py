"""What a glimpse is worth: the paper's two rewards, and those of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Reward = Callable[..., Any]
"""A function of some of `REWARD_ARGUMENTS`, by their names, that returns the rewards of B rows, (B,). Rows must not
depend on one another: row i of a vector environment then gets what a single environment gets."""

REWARD_ARGUMENTS = (
    "probability",
    "previous_probability",
    "random_probabilities",
    "entropy",
    "previous_entropy",
    "is_right",
    "is_last",
)
"""What a reward may ask for, tensors on the classifier's device: the softmax probability of the true label after the
glimpse and before it, (B,) float32 in [0, 1]; the same after each of S random glimpses instead, (S, B), which are
encoded only for rewards that ask for them; the entropy of all classes after the glimpse and before it, (B,) float32 at
least 0, in nats; whether the prediction after the glimpse is right, (B,) bool; whether it is the episode's last."""


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


REWARDS: dict[str, Reward] = {"contrastive": contrastive_reward, "increment": increment_reward}
"""The rewards by name; `register_reward` adds one."""


def register_reward(name: str, function: Reward) -> None:
    """Gives a reward of one's own a name, for configs, `gfnet benchmark --set rules.reward=NAME` and tasks' rules.

    Args:
        name: what it is called.
        function: see `Reward`.

    Raises:
        ValueError: if it asks for anything that is not in `REWARD_ARGUMENTS`.
    """
    reward_arguments(function)
    REWARDS[name] = function


def reward_arguments(reward: str | Reward) -> tuple[str, ...]:
    """Which of `REWARD_ARGUMENTS` a reward asks for.

    Args:
        reward: a key of `REWARDS`, or a function.

    Raises:
        ValueError: if it asks for anything else.
    """
    function = REWARDS[reward] if isinstance(reward, str) else reward
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return REWARD_ARGUMENTS
    for parameter in parameters:
        if parameter.name not in REWARD_ARGUMENTS and parameter.default is parameter.empty:
            raise ValueError(
                f"the reward {reward_name(reward)} asks for {parameter.name!r}; a reward may ask for "
                f"{', '.join(REWARD_ARGUMENTS)}"
            )
    return tuple(parameter.name for parameter in parameters if parameter.name in REWARD_ARGUMENTS)


def reward_name(reward: str | Reward) -> str:
    """What messages call a reward."""
    return reward if isinstance(reward, str) else getattr(reward, "__name__", type(reward).__name__)


def reward_of(reward: str | Reward, given: Mapping[str, Tensor], count: int) -> Tensor:
    """The rewards of B rows.

    Args:
        reward: a key of `REWARDS`, or a function.
        given: those of `REWARD_ARGUMENTS` that it asks for.
        count: number B of rows.

    Returns:
        (B,) floats.

    Raises:
        ValueError: if a function of one's own returns no finite number for each row.
    """
    function = REWARDS[reward] if isinstance(reward, str) else reward
    found = torch.as_tensor(function(**given))
    if function in (increment_reward, contrastive_reward):
        return found
    if found.shape != (count,) or not found.isfinite().all():
        got = f"shape {tuple(found.shape)}" if found.shape != (count,) else "values that are not finite"
        raise ValueError(f"the reward {reward_name(reward)} returned {got}; return a number for each of {count} rows")
    return found
