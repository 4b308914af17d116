"""PPO for a policy with a GRU of its own, back-propagated through the whole episode (Appendix A.2).

Stable-Baselines3 has no recurrent PPO, and sb3-contrib's supports only LSTMs. This one keeps SB3's logger, callbacks,
buffers and saving; only what touches the recurrent state is new.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.nn import functional

from agents.policies.gru import GlimpseGRUPolicy


class PPOGRU(PPO):
    """PPO whose minibatches are whole environments' rollouts, so that gradients flow through the GRU.

    `batch_size` counts steps, as in SB3: a minibatch holds `batch_size / n_steps` environments. `predict` takes and
    returns the GRU's state, as `GlimpseGRUPolicy.predict`.

    A rollout that begins in the middle of an episode starts from the state that the last rollout ended with, where
    gradients stop. With `n_steps` a multiple of the episode's focus steps T - 1, this happens only once an episode of
    that environment has ended early (`exit_confidence`, `stop_action`). Its arguments are those of SB3's PPO.

    Attributes:
        state: (n_envs, units) the GRU's state in each environment, after its last action.
    """

    policy: GlimpseGRUPolicy
    policy_aliases = {"GlimpseGRUPolicy": GlimpseGRUPolicy}  # noqa: RUF012 - SB3's own convention

    def _setup_model(self) -> None:
        super()._setup_model()
        self.state = self.policy.initial_state(self.n_envs)
        self._first_state = self.state

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """As SB3's, carrying the recurrent state along; false if the callback stopped the training."""
        assert self._last_obs is not None and self._last_episode_starts is not None
        assert isinstance(self.action_space, spaces.Box) and isinstance(rollout_buffer, DictRolloutBuffer)
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        self._first_state = self.state
        for _ in range(n_rollout_steps):
            starts = torch.as_tensor(self._last_episode_starts, dtype=torch.float32, device=self.device)
            with torch.no_grad():
                self.state = self.policy.recur(obs_as_tensor(self._last_obs, self.device), self.state, starts)  # type: ignore[arg-type]  # Dict observations
                distribution, values = self.policy.outputs(self.state)
                actions = distribution.get_actions()
                log_probs = distribution.log_prob(actions)
            sampled = actions.cpu().numpy()
            obs, rewards, dones, infos = env.step(np.clip(sampled, self.action_space.low, self.action_space.high))
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            rollout_buffer.add(self._last_obs, sampled, rewards, self._last_episode_starts, values, log_probs)  # type: ignore[arg-type]  # Dict observations
            self._last_obs = obs  # type: ignore[assignment]  # Dict observations
            self._last_episode_starts = dones
        with torch.no_grad():
            starts = torch.as_tensor(dones, dtype=torch.float32, device=self.device)
            after = self.policy.recur(obs_as_tensor(obs, self.device), self.state, starts)  # type: ignore[arg-type]  # Dict observations
            last_values = self.policy.outputs(after)[1]
        rollout_buffer.compute_returns_and_advantage(last_values=last_values, dones=dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """One PPO update from the rollout buffer, Eq. (13) and (14)."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        progress = self._current_progress_remaining
        clip_range = self.clip_range(progress) if callable(self.clip_range) else self.clip_range
        buffer = self.rollout_buffer
        assert isinstance(buffer, DictRolloutBuffer)
        minibatches = max(1, self.n_envs * self.n_steps // self.batch_size)
        losses: dict[str, list[float]] = {"policy_gradient_loss": [], "value_loss": [], "entropy_loss": [], "loss": []}
        for _ in range(self.n_epochs):
            for rows in np.array_split(np.random.permutation(self.n_envs), minibatches):
                parts = self._losses(buffer, rows, float(clip_range))
                self.policy.optimizer.zero_grad()
                parts["loss"].backward()
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()
                for name, value in parts.items():
                    losses[name].append(value.item())
            self._n_updates += 1
        for name, values in losses.items():
            self.logger.record(f"train/{name}", np.mean(values))
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        )
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _losses(self, buffer: DictRolloutBuffer, rows: np.ndarray, clip_range: float) -> dict[str, Tensor]:
        log_probs, values, entropies = self.evaluate_rollout(buffer, rows)
        old_log_probs, advantages, returns = (
            torch.as_tensor(array[:, rows], device=self.device)
            for array in (buffer.log_probs, buffer.advantages, buffer.returns)
        )
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        ratio = torch.exp(log_probs - old_log_probs)
        clipped = torch.clamp(ratio, 1.0 - clip_range, 1.0 + clip_range)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        value_loss = functional.mse_loss(values, returns)
        entropy_loss = -entropies.mean()
        loss = policy_loss + self.vf_coef * value_loss + self.ent_coef * entropy_loss
        return {
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": entropy_loss,
            "loss": loss,
        }

    def evaluate_rollout(self, buffer: DictRolloutBuffer, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the policy through a rollout again, differentiably, from the state that it began with.

        Args:
            buffer: the rollout that was collected last.
            rows: (R,) which environments.

        Returns:
            log-probabilities of the actions, values and entropies, (n_steps, R) each.
        """

        def of(array: np.ndarray) -> Tensor:  # (n_steps, R, ...)
            return torch.as_tensor(array[:, rows], device=self.device)

        flat = {key: of(array).flatten(0, 1) for key, array in buffer.observations.items()}
        vectors = self.policy.extract_features(flat)
        assert isinstance(vectors, Tensor)  # policy and value share it
        vectors = vectors.unflatten(0, (buffer.buffer_size, -1))
        starts, actions, state = of(buffer.episode_starts), of(buffer.actions), self._first_state[rows]
        log_probs, values, entropies = [], [], []
        for step in range(buffer.buffer_size):
            state = self.policy.remember(vectors[step], state, starts[step])
            distribution, value = self.policy.outputs(state)
            entropy = distribution.entropy()
            assert entropy is not None  # a Gaussian has one
            log_probs.append(distribution.log_prob(actions[step]))
            values.append(value)
            entropies.append(entropy)
        return torch.stack(log_probs), torch.stack(values), torch.stack(entropies)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "state", "_first_state"]
