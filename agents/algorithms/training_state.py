"""The state of an unfinished on-policy training: everything that determines how it continues, in one file."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, unwrap_vec_wrapper
from torch import Tensor

from agents.algorithms.ppo_gru import PPOGRU
from classifiers.tensor_files import read_torch, write_torch


def save_training_state(path: Path, agent: OnPolicyAlgorithm) -> None:
    """Writes the state of a training between two rollouts; reading it executes no code.

    It holds the policy, its optimiser and the step count, on which learning rate and action noise depend; the recurrent
    state of a policy that has one; the observation that the next rollout begins with; SB3's statistics of episodes; and
    the environment's own state (`GlanceFocusVectorEnv.state_dict`).

    Args:
        path: the file.
        agent: in a `GlanceFocusVectorEnv`.

    Raises:
        OSError: if it can't be written.
    """
    assert agent.env is not None and agent._last_obs is not None and agent._last_episode_starts is not None
    state = {
        "num_timesteps": agent.num_timesteps,
        "n_updates": agent._n_updates,
        "policy": agent.policy.state_dict(),
        "optimizer": agent.policy.optimizer.state_dict(),
        "recurrent": _recurrent_state(agent),
        "last_obs": obs_as_tensor(agent._last_obs, torch.device("cpu")),
        "last_episode_starts": torch.from_numpy(agent._last_episode_starts),
        "recent_episodes": _recent_episodes(agent),
        "monitor": _monitor_state(agent.env),
        "env": agent.env.env_method("state_dict")[0],
    }
    write_torch(path, state)


def load_training_state(path: Path, agent: OnPolicyAlgorithm) -> None:
    """Continues a training in a new agent, built as the one that was saved.

    Args:
        path: what `save_training_state` wrote.
        agent: the new agent; its next `learn(..., reset_num_timesteps=False)` continues the training.

    Raises:
        CheckpointError: if the file is damaged.
    """
    state = read_torch(path)
    assert agent.env is not None
    agent.policy.load_state_dict(state["policy"])
    agent.policy.optimizer.load_state_dict(state["optimizer"])
    agent.num_timesteps, agent._n_updates = state["num_timesteps"], state["n_updates"]
    _load_recurrent_state(agent, state["recurrent"])
    agent._last_obs = _to_arrays(state["last_obs"])
    agent._last_episode_starts = state["last_episode_starts"].numpy()
    _load_recent_episodes(agent, state["recent_episodes"])
    _load_monitor_state(agent.env, state["monitor"])
    agent.env.env_method("load_state_dict", state["env"])


def _recurrent_state(agent: OnPolicyAlgorithm) -> list[Tensor]:
    """The memory of a recurrent policy; nothing for other policies."""
    if isinstance(agent, PPOGRU):
        return [agent.state]
    if isinstance(agent, RecurrentPPO):
        states: Any = agent._last_lstm_states
        return [*states.pi, *states.vf]
    return []


def _load_recurrent_state(agent: OnPolicyAlgorithm, state: list[Tensor]) -> None:
    on_device = [part.to(agent.device) for part in state]
    if isinstance(agent, PPOGRU):
        (agent.state,) = on_device
    elif isinstance(agent, RecurrentPPO):
        actor_hidden, actor_cell, critic_hidden, critic_cell = on_device
        agent._last_lstm_states = RNNStates(  # type: ignore[assignment]  # declared as None
            (actor_hidden, actor_cell), (critic_hidden, critic_cell)
        )


def _recent_episodes(agent: OnPolicyAlgorithm) -> dict[str, Any]:
    """What SB3's logger reports on: the last episodes' returns and lengths, and whether they were a success."""
    episodes = [{key: float(value) for key, value in info.items()} for info in agent.ep_info_buffer or []]
    return {"episodes": episodes, "successes": [bool(success) for success in agent.ep_success_buffer or []]}


def _load_recent_episodes(agent: OnPolicyAlgorithm, state: dict[str, Any]) -> None:
    agent.ep_info_buffer = deque(state["episodes"], maxlen=agent._stats_window_size)
    agent.ep_success_buffer = deque(state["successes"], maxlen=agent._stats_window_size)


def _monitor_state(env: VecEnv) -> dict[str, Tensor]:
    """Returns and lengths so far of the episodes that are not over."""
    monitor = unwrap_vec_wrapper(env, VecMonitor)
    if monitor is None:
        return {}
    return {name: torch.from_numpy(getattr(monitor, name)) for name in _MONITORED}


def _load_monitor_state(env: VecEnv, state: dict[str, Tensor]) -> None:
    monitor = unwrap_vec_wrapper(env, VecMonitor)
    if monitor is not None:
        for name in _MONITORED:
            setattr(monitor, name, state[name].numpy())


_MONITORED = ("episode_returns", "episode_lengths")


def _to_arrays(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: value.numpy() for key, value in observation.items()}
    return np.asarray(observation)
