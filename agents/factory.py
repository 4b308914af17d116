"""Agents by name, with the hyper-parameters of the paper or our own where they do better."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from agents.ppo_gru import PPOGRU
from agents.proposal_network import GlimpseGRUPolicy, GlimpsePolicy
from agents.sb3_vec_env import SB3VecEnv
from gfnet_env import GlanceFocusDynamics, GlanceFocusEnv, GlanceFocusVectorEnv


@dataclass(frozen=True)
class AgentRecipe:
    """How an agent is built.

    Attributes:
        algorithm: the SB3 class.
        policy: its policy class or SB3's name of one.
        defaults: keyword arguments of the algorithm, unless others are passed.
        policy_kwargs: keyword arguments of the policy, likewise.
        learns_from_rollouts: whether it takes `n_steps` and `batch_size`, which then default to whole episodes, about
            768 steps in all, in three batches.
    """

    algorithm: Callable[..., BaseAlgorithm]
    policy: Any
    defaults: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    learns_from_rollouts: bool = False


# A.2: gamma 0.7, clipping 0.2, c1 0.5, c2 0.01 (which a given std makes void), Monte-Carlo returns.
# Differs from the paper: four epochs of three batches instead of one of one, learning rate 2e-3 instead of 3e-4,
# std 0.15 instead of 0.1, advantages normalised instead of returns: each learns faster on the embedded task. The
# log-probability is that of the action before it is clipped to the space (SB3); the authors' code takes it after.
_ROLLOUT = 768  # steps: 256 scenes of three focus steps; A.2's mini-batch of 256 images
_PPO = {
    "n_epochs": 4,
    "learning_rate": 2e-3,
    "gamma": 0.7,
    "gae_lambda": 1.0,
    "clip_range": 0.2,
    "vf_coef": 0.5,
    "ent_coef": 0.0,
}
_POLICY = {"std": 0.15, "extractor": {"attention_maps": 8}}  # `PROPOSAL_NETWORKS` has the paper's own

AGENTS: dict[str, AgentRecipe] = {
    "ppo": AgentRecipe(PPO, GlimpsePolicy, _PPO, _POLICY, learns_from_rollouts=True),
    "ppo_gru": AgentRecipe(PPOGRU, GlimpseGRUPolicy, _PPO, _POLICY, learns_from_rollouts=True),
}
"""Recipes by name; add your own with one entry."""


def make_agent(
    name: str,
    env: GlanceFocusEnv | GlanceFocusVectorEnv | VecEnv | gymnasium.Env[Any, Any] | str,
    *,
    policy_kwargs: dict[str, Any] | None = None,
    **overrides: Any,
) -> BaseAlgorithm:
    """An untrained agent.

    Args:
        name: a key of `AGENTS`.
        env: what it acts in: an id, an environment, a vector environment (autoreset SAME_STEP) or an SB3 `VecEnv`.
        policy_kwargs: of the policy, over the recipe's.
        **overrides: of the algorithm (`seed`, `learning_rate`, `tensorboard_log`, ...), over the recipe's.

    Returns:
        The SB3 algorithm; `learn`, `predict`, `save` are SB3's own.

    Raises:
        ValueError: if the name is unknown or the environment does not fit.
    """
    if name not in AGENTS:
        near = difflib.get_close_matches(name, AGENTS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"agent {name!r} is unknown; {hint}pass one of {', '.join(AGENTS)}")
    recipe, wrapped = AGENTS[name], as_sb3(env)
    options = {**recipe.defaults, **overrides}
    if recipe.learns_from_rollouts:
        num_envs = wrapped.num_envs if isinstance(wrapped, VecEnv) else 1
        options.setdefault("n_steps", _whole_episodes(_focus_steps(wrapped), num_envs))
        rollout = options["n_steps"] * num_envs
        options.setdefault("batch_size", next(rollout // parts for parts in (3, 2, 1) if rollout % parts == 0))
    return recipe.algorithm(
        recipe.policy, wrapped, policy_kwargs={**recipe.policy_kwargs, **(policy_kwargs or {})}, **options
    )


def _whole_episodes(focus_steps: int, num_envs: int) -> int:
    """Steps of one environment in a rollout: the fewest whole episodes that make `_ROLLOUT` steps in all."""
    return focus_steps * max(1, math.ceil(_ROLLOUT / (focus_steps * num_envs)))


def _focus_steps(env: Any) -> int:
    """T - 1 of an environment of ours, however wrapped; 1 of any other."""
    dynamics = env.get_attr("dynamics")[0] if isinstance(env, VecEnv) else getattr(env.unwrapped, "dynamics", None)
    return dynamics.num_glimpses - 1 if isinstance(dynamics, GlanceFocusDynamics) else 1


def as_sb3(env: GlanceFocusEnv | GlanceFocusVectorEnv | VecEnv | gymnasium.Env[Any, Any] | str) -> Any:
    """What SB3 accepts as environment: a vector environment of ours gets its adapter and an episode monitor."""
    if isinstance(env, str):
        return gymnasium.make(env)
    if isinstance(env, GlanceFocusVectorEnv):
        return VecMonitor(SB3VecEnv(env))
    return env
