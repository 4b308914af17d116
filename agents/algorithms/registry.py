"""The algorithms that train agents, with their policies and settings.

To add your own, add an entry:

    from agents import AGENTS, AgentRecipe

    AGENTS["mine"] = AgentRecipe(MyAlgorithm, "MultiInputPolicy", {"gamma": 0.7, "learning_rate": 1e-3})

`make_agent("mine", env)` then works. With the entry in `my_agents.py`, so do `gfnet benchmark mine --import my_agents`
and `gfnet train CONFIG --import my_agents --set stage2.agent=mine`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sb3_contrib import TQC, TRPO, CrossQ, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms.differentiable_crop import DifferentiableCrop
from agents.algorithms.ppo_gru import PPOGRU
from agents.policies.actor_critic import GlimpseActorCriticPolicy
from agents.policies.exploration import DEFAULT_STD
from agents.policies.grid import GlimpseGridPolicy
from agents.policies.gru import GlimpseGRUPolicy
from agents.policies.off_policy import (
    GlimpseCrossQPolicy,
    GlimpseLSTMPolicy,
    GlimpseSACPolicy,
    GlimpseTD3Policy,
    GlimpseTQCPolicy,
)

FORMS = ("plain", "flat", "grid")
"""The form in which an algorithm needs the environment: as it is, with flat observations, or with actions on a grid."""


@dataclass(frozen=True)
class AgentRecipe:
    """How an agent is built.

    Attributes:
        algorithm: the SB3 class.
        policy: its policy class, or SB3's name for one.
        defaults: default keyword arguments of the algorithm.
        policy_kwargs: default keyword arguments of the policy; `extractor` holds those of `GlimpseExtractor`.
        rollout: least number of steps in a rollout; `n_steps` then defaults to as few whole episodes as make up so
            many. 0 for algorithms that don't learn from rollouts.
        batches: number of batches that a rollout is split into, for algorithms with a `batch_size`.
        updates_per_step: gradient steps per environment step, for algorithms with a replay buffer.
        noise: standard deviation of the action noise in the paper's [0, 1] units, for algorithms that need it.
        num_envs: number of parallel episodes that it learns well from.
        form: one of `FORMS`.
    """

    algorithm: Callable[..., BaseAlgorithm]
    policy: Any
    defaults: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    rollout: int = 0
    batches: int = 0
    updates_per_step: float = 0.0
    noise: float = 0.0
    num_envs: int = 256
    form: str = "plain"


_WIDE = {"extractor": {"attention_maps": 8}}  # `PROPOSAL_NETWORKS` has the paper's own
_LEAN = {"extractor": {"attention_maps": 8, "conv_channels": 8, "units": 64}}  # docs/agents.md compares both

# A.2: gamma 0.7, clipping 0.2, c1 0.5, c2 0.01 (without effect, as the std is fixed), Monte-Carlo returns.
# Differs from the paper: four epochs of three batches instead of one of one, learning rate 2e-3 instead of 3e-4,
# std 0.15 instead of 0.1, advantages normalized instead of returns: each learns faster on the built-in task. The
# log-probability is that of the action before it is clipped to the space (SB3); the authors' code uses the clipped one.
_RETURNS = {"gamma": 0.7, "gae_lambda": 1.0}
_PPO = {**_RETURNS, "n_epochs": 4, "learning_rate": 2e-3, "clip_range": 0.2, "vf_coef": 0.5, "ent_coef": 0.0}
_ROLLOUT = 768  # steps: 256 scenes of three focus steps; A.2's mini-batch of 256 images

# Algorithms with a replay buffer learn from single steps; observations are large, so the buffer is small.
_REPLAY = {"gamma": 0.7, "buffer_size": 20_000, "batch_size": 256, "learning_starts": 2_000, "train_freq": 1}
_ENTROPY = {"ent_coef": "auto_0.02"}  # rewards are differences of probabilities; a coefficient of 1 would swamp them
_CRITIC = {"net_arch": {"pi": [], "qf": [256]}, **_LEAN}


def _replay(algorithm: Any, policy: Any, form: str = "plain", /, **defaults: Any) -> AgentRecipe:
    return AgentRecipe(
        algorithm,
        policy,
        {**_REPLAY, "learning_rate": 1e-3, **defaults},
        _CRITIC,
        updates_per_step=1 / 16,
        num_envs=64,
        form=form,
    )


AGENTS: dict[str, AgentRecipe] = {
    "ppo": AgentRecipe(PPO, GlimpseActorCriticPolicy, _PPO, _WIDE, rollout=_ROLLOUT, batches=3),
    "ppo_gru": AgentRecipe(PPOGRU, GlimpseGRUPolicy, _PPO, _LEAN, rollout=_ROLLOUT, batches=3),
    # Where a look only says where to look next, it is worth nothing to an agent that is not patient.
    "ppo_grid": AgentRecipe(
        PPO,
        GlimpseGridPolicy,
        {**_PPO, "gamma": 0.95},
        {"extractor": {"conv_channels": 8, "units": 64}},
        rollout=_ROLLOUT,
        batches=3,
        form="grid",
    ),
    "recurrent_ppo": AgentRecipe(RecurrentPPO, GlimpseLSTMPolicy, _PPO, _LEAN, rollout=_ROLLOUT, batches=3),
    "a2c": AgentRecipe(
        A2C,
        GlimpseActorCriticPolicy,
        {**_RETURNS, "learning_rate": 3e-3, "vf_coef": 0.5, "ent_coef": 0.0, "normalize_advantage": True},
        _LEAN,
        rollout=192,
        num_envs=64,
    ),
    "trpo": AgentRecipe(
        TRPO,
        GlimpseActorCriticPolicy,
        # The curvature is estimated from only hundreds of steps: with little damping, noise dominates the update.
        {
            **_RETURNS,
            "learning_rate": 2e-3,
            "n_critic_updates": 10,
            "target_kl": 0.2,
            "cg_damping": 30.0,
            "cg_max_steps": 5,
        },
        # It follows the gradient of an objective, uphill, so that a penalty in it would pull the wrong way.
        {**_LEAN, "saturation_penalty": 0.0},
        _ROLLOUT,
        3,
    ),
    "sac": _replay(SAC, GlimpseSACPolicy, tau=0.02, **_ENTROPY),
    # With a higher learning rate, a deterministic actor saturates its tanh, where there is no gradient.
    "td3": replace(_replay(TD3, GlimpseTD3Policy, tau=0.02, learning_rate=3e-4), noise=DEFAULT_STD),
    "ddpg": replace(_replay(DDPG, GlimpseTD3Policy, tau=0.02, learning_rate=3e-4), noise=DEFAULT_STD),
    "tqc": _replay(TQC, GlimpseTQCPolicy, tau=0.02, **_ENTROPY),
    "crossq": _replay(CrossQ, GlimpseCrossQPolicy, "flat", learning_rate=3e-3, **_ENTROPY),
    "dqn": AgentRecipe(
        DQN,
        "MultiInputPolicy",
        {**_REPLAY, "learning_rate": 1e-3, "exploration_fraction": 0.3, "target_update_interval": 2_000},
        {"net_arch": [], **_LEAN},
        updates_per_step=1 / 16,
        num_envs=64,
        form="grid",
    ),
    # No reinforcement learning; it never steps its environment.
    "differentiable_crop": AgentRecipe(
        DifferentiableCrop, GlimpseActorCriticPolicy, {"learning_rate": 7e-4, "batch_size": 16}, _WIDE, num_envs=1
    ),
}
"""Recipes by name."""
