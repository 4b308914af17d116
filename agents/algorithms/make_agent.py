"""Builds agents by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import FlattenObservation
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from agents.algorithms.registry import AGENTS, AgentRecipe
from agents.algorithms.sb3_vec_env import FlatVecEnv, SB3VecEnv
from agents.policies.actor_critic import SquashedMeanGaussian
from agents.policies.exploration import action_noise
from agents.policies.extractor import GlimpseExtractor, extractor_arguments
from agents.policies.grid import GlimpseGridPolicy
from agents.policies.off_policy import FlatGlimpseExtractor
from classifiers.checks import check_known, did_you_mean
from gfnet_env import GridAction, VectorGridAction

AnyEnv = gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv
"""An environment, a vector environment (autoreset SAME_STEP), or an SB3 `VecEnv`."""

_SIZES = ("rollout", "batches")  # of a recipe, where it has them: what `n_steps` and `batch_size` follow from


def make_agent(
    name: str, env: AnyEnv | str, *, policy_kwargs: dict[str, Any] | None = None, **overrides: Any
) -> BaseAlgorithm:
    """Builds an untrained agent.

    Args:
        name: a key of `AGENTS`.
        env: the environment or its id; wrapped where the algorithm needs flat observations or discrete actions.
        policy_kwargs: arguments of the policy, which override the recipe's.
        **overrides: arguments of the algorithm (`seed`, `learning_rate`, `tensorboard_log`, ...), which override the
            recipe's; and, for algorithms that learn from rollouts, the recipe's `rollout` and `batches`.

    Returns:
        The SB3 algorithm, with SB3's own `learn`, `predict` and `save`.

    Raises:
        ValueError: if the name or an option is unknown, or the algorithm can't act in the environment.
    """
    check_known("agent", name, AGENTS)
    recipe = AGENTS[name]
    recipe = replace(recipe, **{key: overrides.pop(key) for key in _SIZES if getattr(recipe, key) and key in overrides})
    if isinstance(env, str):
        env = gymnasium.make(env)
    parts = env.single_observation_space if isinstance(env, VectorEnv) else env.observation_space
    if isinstance(env, VecEnv):
        parts = getattr(env, "parts", parts)  # `FlatVecEnv`'s, however wrapped
    wrapped = as_sb3(env, recipe.form)
    _check_keys(recipe.algorithm, name, overrides)
    num_envs = wrapped.num_envs if isinstance(wrapped, VecEnv) else 1
    options = {**recipe.defaults, **overrides}
    if recipe.rollout:
        episode = _focus_steps(wrapped)
        options.setdefault("n_steps", episode * math.ceil(recipe.rollout / (episode * num_envs)))  # whole episodes
    if recipe.batches:
        rollout = options["n_steps"] * num_envs
        options.setdefault("batch_size", rollout // next(n for n in range(recipe.batches, 0, -1) if rollout % n == 0))
    if recipe.updates_per_step:
        options.setdefault("gradient_steps", max(1, round(recipe.updates_per_step * num_envs)))
    if recipe.noise:
        options.setdefault("action_noise", action_noise(recipe.noise, wrapped.action_space.shape))
    policy_kwargs = _policy_kwargs(recipe, policy_kwargs or {}, parts)
    return recipe.algorithm(recipe.policy, wrapped, policy_kwargs=policy_kwargs, **options)


def _policy_kwargs(recipe: AgentRecipe, overrides: dict[str, Any], parts: spaces.Space[Any]) -> dict[str, Any]:
    """The policy's arguments; SB3's own policies take the extractor as a class and its arguments."""
    merged = {**recipe.policy_kwargs, **overrides}
    is_ours = isinstance(recipe.policy, type) and issubclass(recipe.policy, (SquashedMeanGaussian, GlimpseGridPolicy))
    if is_ours or "extractor" not in merged or not isinstance(parts, spaces.Dict):
        return merged
    arguments = extractor_arguments(merged.pop("extractor"))
    if recipe.form == "flat":
        return {
            **merged,
            "features_extractor_class": FlatGlimpseExtractor,
            "features_extractor_kwargs": {**arguments, "parts": parts},
        }
    return {**merged, "features_extractor_class": GlimpseExtractor, "features_extractor_kwargs": arguments}


def _check_keys(algorithm: Callable[..., BaseAlgorithm], name: str, options: dict[str, Any]) -> None:
    """Rejects the first option that an algorithm does not have, and suggests a similar one."""
    parameters = inspect.signature(algorithm).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in options.keys() - parameters.keys():
        hint = did_you_mean(key, parameters)
        raise ValueError(f"agent {name!r} has no option {key!r}; {hint}it has {', '.join(parameters)}")


def _focus_steps(env: Any) -> int:
    """T - 1 for a glance-and-focus environment, wrapped or not; 1 for any other."""
    if isinstance(env, VecEnv):
        return env.get_attr("num_glimpses", 0)[0] - 1 if env.has_attr("num_glimpses") else 1
    return env.get_wrapper_attr("num_glimpses") - 1 if env.has_wrapper_attr("num_glimpses") else 1


def as_sb3(env: AnyEnv, form: str = "plain") -> Any:
    """Adapts an environment to SB3; a vector environment also gets an episode monitor.

    Args:
        env: the environment.
        form: one of `agents.algorithms.registry.FORMS`.

    Returns:
        A Gymnasium environment or an SB3 `VecEnv`.

    Raises:
        ValueError: if the environment is an SB3 `VecEnv` whose actions would have to be on a grid.
    """
    if isinstance(env, VecEnv):
        if form == "grid" and not isinstance(env.action_space, spaces.Discrete):
            raise ValueError(
                "this algorithm needs a grid of actions; wrap the environments of the VecEnv in GridAction"
            )
        return FlatVecEnv(env) if form == "flat" and isinstance(env.observation_space, spaces.Dict) else env
    if isinstance(env, VectorEnv):
        adapted = SB3VecEnv(VectorGridAction(env) if form == "grid" else env)
        return VecMonitor(FlatVecEnv(adapted) if form == "flat" else adapted)
    if form == "flat":
        return FlattenObservation(env)
    return GridAction(env) if form == "grid" else env
