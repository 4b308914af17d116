"""The state of an unfinished on-policy training: everything that determines how it continues, in one file."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecMonitor, unwrap_vec_wrapper
from torch import Tensor

from agents.algorithms.ppo_gru import PPOGRU
from classifiers.tensor_files import read_torch, write_torch

_MONITORED = ("episode_returns", "episode_lengths")  # so far, of the episodes that are not over


def save_training_state(path: Path, agent: OnPolicyAlgorithm) -> None:
    """Writes the state of a training between two rollouts; reading it executes no code.

    It holds the policy, its optimizer and the step count, on which learning rate and action noise depend; the recurrent
    state of a policy that has one; the observation that the next rollout begins with; SB3's statistics of episodes; and
    the environment's own state (`GlanceFocusVectorEnv.state_dict`).

    Args:
        path: the file.
        agent: in a `GlanceFocusVectorEnv`.

    Raises:
        OSError: if it can't be written.
    """
    assert agent.env is not None and agent._last_obs is not None and agent._last_episode_starts is not None
    monitor = unwrap_vec_wrapper(agent.env, VecMonitor)
    state = {
        "num_timesteps": agent.num_timesteps,
        "n_updates": agent._n_updates,
        "policy": agent.policy.state_dict(),
        "optimizer": agent.policy.optimizer.state_dict(),
        "recurrent": _recurrent_state(agent),
        "last_obs": obs_as_tensor(agent._last_obs, torch.device("cpu")),
        "last_episode_starts": torch.from_numpy(agent._last_episode_starts),
        "episodes": [{key: float(value) for key, value in info.items()} for info in agent.ep_info_buffer or []],
        "successes": [bool(success) for success in agent.ep_success_buffer or []],
        "monitor": {} if monitor is None else {name: torch.from_numpy(getattr(monitor, name)) for name in _MONITORED},
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
    _load_recurrent_state(agent, [part.to(agent.device) for part in state["recurrent"]])
    last_obs = state["last_obs"]
    is_flat = isinstance(last_obs, Tensor)
    agent._last_obs = last_obs.numpy() if is_flat else {key: value.numpy() for key, value in last_obs.items()}
    agent._last_episode_starts = state["last_episode_starts"].numpy()
    agent.ep_info_buffer = deque(state["episodes"], maxlen=agent._stats_window_size)
    agent.ep_success_buffer = deque(state["successes"], maxlen=agent._stats_window_size)
    monitor = unwrap_vec_wrapper(agent.env, VecMonitor)
    for name, values in state["monitor"].items():
        setattr(monitor, name, values.numpy())
    agent.env.env_method("load_state_dict", state["env"])


def _recurrent_state(agent: OnPolicyAlgorithm) -> list[Tensor]:
    if isinstance(agent, PPOGRU):
        return [agent.state]
    if isinstance(agent, RecurrentPPO):
        states: Any = agent._last_lstm_states
        return [*states.pi, *states.vf]
    return []


def _load_recurrent_state(agent: OnPolicyAlgorithm, state: list[Tensor]) -> None:
    if isinstance(agent, PPOGRU):
        (agent.state,) = state
    elif isinstance(agent, RecurrentPPO):
        agent._last_lstm_states = RNNStates(tuple(state[:2]), tuple(state[2:]))  # type: ignore[assignment]  # declared as None
