"""The paper's own pi: the patch proposal network with a GRU (Section 3.2, Fig. 4)."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from torch import Tensor, nn

from agents.policies.actor_critic import GlimpseActorCriticPolicy
from agents.policies.extractor import Observation


class GlimpseGRUPolicy(GlimpseActorCriticPolicy):
    """The paper's own pi: as `GlimpseActorCriticPolicy`, with a GRU between features and outputs.

    The one-hot of the step, where the extractor appends it to its vector, stands beside the GRU's memory at the end of
    the state, so that the last layer has a bias for every step.
    """

    gru: nn.GRUCell

    def _build_memory(self) -> None:
        self.gru = nn.GRUCell(self.features_dim, self.features_dim - self._num_steps)

    @property
    def _num_steps(self) -> int:
        return int(getattr(self.features_extractor, "num_steps", 0))

    def initial_state(self, batch_size: int) -> Tensor:
        """(B, units + T) zeros: the state before the glance."""
        return torch.zeros(batch_size, self.features_dim, device=self.device)

    def recur(self, observations: Observation, state: Tensor, episode_start: Tensor) -> Tensor:
        """One step of the GRU.

        Args:
            observations: of B environments.
            state: (B, units + T) after the previous step.
            episode_start: (B,) 1.0 where this is the first observation of an episode, else 0.0.

        Returns:
            (B, units + T) the new state h^pi, and the one-hot of the step.
        """
        return self.remember(self.extract_features(observations), state, episode_start)  # type: ignore[arg-type]  # Dict observations

    def remember(self, vectors: Tensor, state: Tensor, episode_start: Tensor) -> Tensor:
        """`recur` on already extracted (B, features_dim) vectors."""
        units = self.gru.hidden_size
        memory: Tensor = self.gru(vectors, state[:, :units] * (1.0 - episode_start)[:, None])
        return torch.cat([memory, vectors[:, units:]], dim=1)

    def mean_action(self, observations: Observation, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The deterministic action and the new state, (B, units + T); a state of None is that before the glance."""
        if state is None:
            state = self.initial_state(len(next(iter(observations.values()))))
        state = self.recur(observations, state, state.new_zeros(len(state)))
        return self.action_net(state), state

    def outputs(self, state: Tensor) -> tuple[Distribution, Tensor]:
        """The distribution of the action and the value (B,), given the state."""
        return self._get_action_dist_from_latent(state), self.value_net(state).flatten()

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Decides where to look next.

        Args:
            observation: of one environment or of B.
            state: what the last call returned; None at the start.
            episode_start: (B,) bool, which environments start an episode and need a fresh state.
            deterministic: takes the mean instead of a sample.

        Returns:
            action (B, A) or (A,) in [-1, 1], and the state to pass to the next call.
        """
        self.set_training_mode(False)
        tensors, is_batch = self.obs_to_tensor(observation)
        assert isinstance(tensors, dict) and isinstance(self.action_space, spaces.Box)
        count = len(next(iter(tensors.values())))
        last = self.initial_state(count) if state is None else torch.as_tensor(state[0], device=self.device)
        starts = np.zeros(count) if episode_start is None else np.asarray(episode_start)
        with torch.no_grad():
            new = self.recur(tensors, last, torch.as_tensor(starts, dtype=torch.float32, device=self.device))
            actions = self.outputs(new)[0].get_actions(deterministic=deterministic)
        clipped = np.clip(actions.cpu().numpy(), self.action_space.low, self.action_space.high)
        return (clipped if is_batch else clipped[0]), (new.cpu().numpy(),)
