"""Stage II: trains an agent so that a run that was cut off ends with the same policy.

Where an algorithm learns on policy, every rollout starts from freshly seeded episodes and a freshly seeded generator,
both functions of the seed and the steps done; so the state of a training is its network, its optimiser and its step
count, written between two rollouts. Other algorithms carry a replay buffer or a search; cut off, they start again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed

from classifiers.files import write_torch
from classifiers.training.loop import NotANumberError
from classifiers.training.saved_state import load_state, usable_state

OnRollout = Callable[[int, int, dict[str, float]], None]
"""Called after every rollout, or every so many steps, with (steps done, steps in all, {"reward": ...})."""

STATE_KEYS = ("num_timesteps", "n_updates", "policy", "optimizer")
"""What the checkpoint of an unfinished training holds."""

_SECONDS_BETWEEN_CHECKPOINTS = 5.0
_STEPS_BETWEEN_REPORTS = 768


def train_agent(
    agent: BaseAlgorithm,
    env_steps: int,
    *,
    seed: int,
    action_std_schedule: tuple[float, float] | None = None,
    checkpoint: Path | None = None,
    on_rollout: OnRollout | None = None,
    on_checkpoint: Callable[[], None] | None = None,
) -> None:
    """Trains an agent in place, resuming from its checkpoint where there is one.

    Args:
        agent: a new agent in a vector environment of ours.
        env_steps: focus steps to learn from; rounded up to whole rollouts.
        seed: of everything random.
        action_std_schedule: standard deviation of the actions around their mean at the start and at the end, in the
            paper's [0, 1] units; it decays geometrically. It applies to policies whose standard deviation is fixed and
            to algorithms with action noise; None leaves it unchanged.
        checkpoint: file that holds the state between rollouts, written every few seconds; on-policy algorithms only.
        on_rollout: told of progress: the mean reward per episode as `reward`.
        on_checkpoint: called before the checkpoint is written, so that what was noted of the rollouts before it lasts.

    Raises:
        NotANumberError: if a weight stops being a number; the checkpoint then holds the last good state.
        CheckpointError: if the checkpoint is damaged.
        OSError: if the checkpoint can't be written.
    """
    env_steps = whole_rollouts(agent, env_steps)
    if isinstance(agent, OnPolicyAlgorithm):
        callback: BaseCallback = _RepeatableRollouts(
            seed, env_steps, action_std_schedule, checkpoint, on_rollout, on_checkpoint
        )
        done = _resume(agent, checkpoint)
        if done < env_steps:
            agent.learn(env_steps - done, callback=callback, reset_num_timesteps=False)
    else:
        set_random_seed(seed)
        env = agent.get_env()
        assert env is not None
        env.seed(seed)
        agent.learn(env_steps, callback=_Progress(env_steps, action_std_schedule, on_rollout))
    _refuse_nan(agent)


def whole_rollouts(agent: BaseAlgorithm, env_steps: int) -> int:
    """`env_steps`, rounded up to whole rollouts of the agent."""
    rollout = agent.n_steps * agent.n_envs if isinstance(agent, OnPolicyAlgorithm) else agent.n_envs
    return -(-env_steps // rollout) * rollout


def save_agent_state(path: Path, agent: OnPolicyAlgorithm) -> None:
    """Writes an agent's weights, optimiser and step count; loading it executes no code."""
    state = {
        "num_timesteps": agent.num_timesteps,
        "n_updates": agent._n_updates,
        "policy": agent.policy.state_dict(),
        "optimizer": agent.policy.optimizer.state_dict(),
    }
    write_torch(path, state)


def _resume(agent: OnPolicyAlgorithm, checkpoint: Path | None) -> int:
    if checkpoint is None or not checkpoint.exists():
        return 0
    state = load_state(checkpoint, STATE_KEYS, agent.device)
    with usable_state(checkpoint):
        agent.policy.load_state_dict(state["policy"])
        agent.policy.optimizer.load_state_dict(state["optimizer"])
        agent.num_timesteps, agent._n_updates = int(state["num_timesteps"]), int(state["n_updates"])
    return agent.num_timesteps


def _refuse_nan(agent: BaseAlgorithm) -> None:
    if not all(torch.isfinite(parameter).all() for parameter in agent.policy.parameters()):
        raise NotANumberError(
            f"a weight of the policy became NaN or infinite after {agent.num_timesteps} steps; the last good state is "
            "kept, pass a lower learning_rate"
        )


def falling(action_std_schedule: tuple[float, float], progress: float) -> float:
    """Falls geometrically from the first to the last as `progress` goes from 0 to 1."""
    first, last = action_std_schedule
    return float(first * (last / first) ** progress)


def set_std(agent: BaseAlgorithm, std: float) -> None:
    """Sets how far an agent strays from what it deems best, in the paper's [0, 1] units, if that can be set."""
    setter = getattr(agent.policy, "set_std", None)
    if setter is not None:
        setter(std)
    noise = getattr(agent, "action_noise", None)
    for single in noise.noises if isinstance(noise, VectorizedActionNoise) else [noise]:
        if isinstance(single, NormalActionNoise):
            single._sigma = np.full_like(single._sigma, 2.0 * std)  # actions span twice the locations' range


class _Progress(BaseCallback):
    """Lowers the noise and tells of progress, for algorithms that don't learn from rollouts."""

    def __init__(
        self, total: int, action_std_schedule: tuple[float, float] | None, on_rollout: OnRollout | None
    ) -> None:
        super().__init__()
        self._total, self._stds, self._on_rollout = total, action_std_schedule, on_rollout
        self._told = 0

    def _on_step(self) -> bool:
        agent = self.model
        if self._stds is not None:
            set_std(agent, falling(self._stds, min(1.0, agent.num_timesteps / self._total)))
        if agent.num_timesteps - self._told >= _STEPS_BETWEEN_REPORTS:
            self._tell()
        return True

    def _on_training_end(self) -> None:
        if self.model.num_timesteps > self._told:
            self._tell()

    def _tell(self) -> None:
        self._told = self.model.num_timesteps
        if self._on_rollout is not None:
            rewards = [float(episode["r"]) for episode in self.model.ep_info_buffer or []]
            figures = {"reward": sum(rewards) / max(1, len(rewards))}
            self._on_rollout(min(self._told, self._total), self._total, figures)


class _RepeatableRollouts(BaseCallback):
    def __init__(
        self,
        seed: int,
        total: int,
        action_std_schedule: tuple[float, float] | None,
        checkpoint: Path | None,
        on_rollout: OnRollout | None,
        on_checkpoint: Callable[[], None] | None,
    ) -> None:
        super().__init__()
        self._seed, self._total, self._stds = seed, total, action_std_schedule
        self._checkpoint, self._on_rollout, self._on_checkpoint = checkpoint, on_rollout, on_checkpoint
        self._saved_at = time.monotonic()

    def _on_rollout_start(self) -> None:
        agent: Any = self.model
        _refuse_nan(agent)
        self._save_now_and_then(agent)
        seed = int(np.random.SeedSequence([self._seed, agent.num_timesteps]).generate_state(1)[0])
        set_random_seed(seed)
        if self._stds is not None:
            set_std(agent, falling(self._stds, agent.num_timesteps / self._total))
        agent.env.seed(seed)
        agent._last_obs = agent.env.reset()
        agent._last_episode_starts = np.ones(agent.n_envs, dtype=bool)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self._on_rollout is not None:
            agent: Any = self.model
            buffer = agent.rollout_buffer
            episodes = max(1.0, float(buffer.episode_starts.sum()))
            done = min(agent.num_timesteps, self._total)
            self._on_rollout(done, self._total, {"reward": float(buffer.rewards.sum()) / episodes})

    def _save_now_and_then(self, agent: OnPolicyAlgorithm) -> None:
        if self._checkpoint is not None and time.monotonic() - self._saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
            if self._on_checkpoint is not None:
                self._on_checkpoint()
            save_agent_state(self._checkpoint, agent)
            self._saved_at = time.monotonic()
