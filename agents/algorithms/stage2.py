"""Stage II: trains an agent so that an interrupted training ends with the same policy.

Algorithms that learn on policy continue from rollout to rollout: an episode that is not over when a rollout ends goes
on in the next one. Every few seconds, between two rollouts, a checkpoint saves what determines the rest of the training
(`agents.algorithms.training_state`). The random numbers of the algorithm itself, in a rollout and the update after it,
depend only on the seed and the number of steps so far.

The other algorithms have a replay buffer; if interrupted, they start again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import explained_variance, set_random_seed

from agents.algorithms.training_state import load_training_state, save_training_state
from agents.policies.exploration import ActionStdSchedule
from classifiers.training.loop import NonFiniteLossError

OnRollout = Callable[[int, int, dict[str, float]], None]
"""Called after every rollout, or every 768 steps, with (steps so far, steps in all, figures).

The figures are means over the episodes that ended lately, in the rollout if there is one, left out if none did:
`"reward"`, the return, and `"looks"`, the number of actions; and for algorithms that learn on policy
`"explained_variance"`, of the rollout's returns by the value function, as SB3 computes it (1 is perfect, 0 as good as a
constant; NaN if all returns are equal)."""

_SECONDS_BETWEEN_CHECKPOINTS = 5.0
_LARGEST_FRACTION = 0.05  # of the time that writing checkpoints may take
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
        agent: a new agent in a `GlanceFocusVectorEnv`, as `agents.make_agent` builds it.
        env_steps: focus steps to learn from; rounded up to whole rollouts.
        seed: decides everything random.
        action_std_schedule: first and last standard deviation of the actions, in the paper's [0, 1] units, see
            `ActionStdSchedule`; None leaves it unchanged.
        checkpoint: file that holds the training's state between rollouts, written every few seconds. On-policy
            algorithms only; the others ignore it and start again.
        on_rollout: called with the progress.
        on_checkpoint: called before the checkpoint is written, to save what was recorded of the rollouts before it.

    Raises:
        NonFiniteLossError: if a weight becomes NaN or infinite; the checkpoint then holds the last good state.
        CheckpointError: if the checkpoint is damaged.
        RuntimeError: if it belongs to another training.
        OSError: if the checkpoint can't be written.
    """
    env_steps = whole_rollouts(agent, env_steps)
    _seed_everything(agent, seed)
    reports: type[_Reports] = _StepReports
    callbacks: list[BaseCallback] = []
    if isinstance(agent, OnPolicyAlgorithm):
        reports = _RolloutReports
        callbacks.append(_RepeatableRollouts(seed, checkpoint, on_checkpoint))
        if checkpoint is not None and checkpoint.exists():
            load_training_state(checkpoint, agent)
    if action_std_schedule is not None:
        callbacks.append(ActionStdSchedule(*action_std_schedule, env_steps))
    if on_rollout is not None:
        callbacks.append(reports(on_rollout, env_steps))
    if agent.num_timesteps < env_steps:
        agent.learn(env_steps - agent.num_timesteps, callback=callbacks, reset_num_timesteps=False)
    _check_finite(agent)


def whole_rollouts(agent: BaseAlgorithm, env_steps: int) -> int:
    """`env_steps`, rounded up to whole rollouts of the agent."""
    rollout = agent.n_steps * agent.n_envs if isinstance(agent, OnPolicyAlgorithm) else agent.n_envs
    return -(-env_steps // rollout) * rollout


def _seed_everything(agent: BaseAlgorithm, seed: int) -> None:
    """Seeds the generators of the process and of the environment; `learn` then resets the environment."""
    set_random_seed(seed)
    env = agent.get_env()
    assert env is not None
    env.seed(seed)
    agent._last_obs = None


def _check_finite(agent: BaseAlgorithm) -> None:
    if not all(torch.isfinite(parameter).all() for parameter in agent.policy.parameters()):
        raise NonFiniteLossError(
            f"a weight of the policy became NaN or infinite after {agent.num_timesteps} steps; the last good state is "
            "kept, pass a lower learning_rate"
        )


class _RepeatableRollouts(BaseCallback):
    """Makes each rollout depend only on the seed and the state before it, and writes that state to a checkpoint."""

    def __init__(self, seed: int, checkpoint: Path | None, on_checkpoint: Callable[[], None] | None) -> None:
        super().__init__()
        self._seed, self._checkpoint, self._on_checkpoint = seed, checkpoint, on_checkpoint
        self._save_at = time.monotonic() + _SECONDS_BETWEEN_CHECKPOINTS

    def _on_rollout_start(self) -> None:
        _check_finite(self.model)
        if self._checkpoint is not None and time.monotonic() > self._save_at:
            self._save(self._checkpoint)
        set_random_seed(int(np.random.SeedSequence([self._seed, self.model.num_timesteps]).generate_state(1)[0]))

    def _on_step(self) -> bool:
        return True

    def _save(self, checkpoint: Path) -> None:
        agent: Any = self.model
        started = time.monotonic()
        if self._on_checkpoint is not None:
            self._on_checkpoint()
        save_training_state(checkpoint, agent)
        now = time.monotonic()
        self._save_at = now + max(_SECONDS_BETWEEN_CHECKPOINTS, (now - started) / _LARGEST_FRACTION)


class _Reports(BaseCallback):
    """Reports the means over episodes, as SB3's monitor describes them."""

    def __init__(self, on_rollout: OnRollout, total: int) -> None:
        super().__init__()
        self._on_rollout, self._total = on_rollout, total

    def _report(self, episodes: Collection[dict[str, Any]], **others: float) -> None:
        keys = {"reward": "r", "looks": "l"} if episodes else {}
        means = {name: sum(float(each[key]) for each in episodes) / len(episodes) for name, key in keys.items()}
        self._on_rollout(min(self.model.num_timesteps, self._total), self._total, {**means, **others})


class _RolloutReports(_Reports):
    """Reports the episodes that ended in each rollout."""

    def _on_rollout_start(self) -> None:
        self._episodes: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        self._episodes += [info["episode"] for info in self.locals["infos"] if "episode" in info]
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]  # on-policy
        variance = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        self._report(self._episodes, explained_variance=float(variance))


class _StepReports(_Reports):
    """For algorithms that don't learn from rollouts: reports the last episodes that SB3 keeps."""

    _reported = 0

    def _on_step(self) -> bool:
        if self.num_timesteps - self._reported >= _STEPS_BETWEEN_REPORTS:
            self._report_episodes()
        return True

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._reported:
            self._report_episodes()

    def _report_episodes(self) -> None:
        self._reported = self.num_timesteps
        self._report(self.model.ep_info_buffer or ())
