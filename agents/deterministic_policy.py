"""Any agent of Stable-Baselines3 as a function from glimpses to places, without its noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from agents.fixed_agents import FixedAgent
from agents.proposal_network import GlimpseGRUPolicy, GlimpsePolicy
from classifiers.glance_focus import Glimpse, Locator
from gfnet_env.actions import grid_actions, to_location


class DeterministicPolicy:
    """pi without its noise: `location, state = policy(features, state)`.

    Args:
        agent: an SB3 algorithm on an environment of ours, or its policy. Observations that it learnt from were perhaps
            flattened, normalised by a `VecNormalize`, or acted upon on a grid: here they are the same.
    """

    def __init__(self, agent: BaseAlgorithm | BasePolicy) -> None:
        network = agent.policy if isinstance(agent, BaseAlgorithm) else agent
        assert isinstance(network, BasePolicy)
        network.set_training_mode(False)
        self.network = network
        self._normalizer = agent.get_vec_normalize_env() if isinstance(agent, BaseAlgorithm) else None

    @property
    def reads_hidden(self) -> bool:
        """Whether it needs the classifier's hidden state."""
        return not isinstance(self.network, GlimpsePolicy) or self.network.reads_hidden

    @torch.inference_mode()
    def __call__(
        self, features: Tensor, state: Tensor | None = None, *, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Decides where to look next.

        Args:
            features: (B, C, h, w) feature maps of the last glimpse.
            state: (B, ...) what the call before returned; None after the glance.
            hidden: (B, F_h) the classifier's hidden state, for a policy that reads it.

        Returns:
            The location (B, 2) in [0, 1], (row, col), and the new state; None of a policy that has none.

        Raises:
            ValueError: if the policy reads the hidden state and got none.
        """
        if hidden is None:
            if self.reads_hidden:
                raise ValueError("this policy also reads the classifier's hidden state; pass hidden=glimpse.hidden")
            hidden = features.new_zeros(len(features), 0)
        observation = {"features": features, "hidden": hidden}
        if self._normalizer is not None:
            arrays = {key: value.cpu().numpy() for key, value in observation.items()}
            normalised = self._normalizer.normalize_obs(arrays)
            assert isinstance(normalised, dict)
            observation = {key: torch.as_tensor(value, device=features.device) for key, value in normalised.items()}
        return decide(self.network, observation, state)


def decide(network: BasePolicy, observation: dict[str, Tensor], state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """One deterministic decision; see `DeterministicPolicy`, whose shapes these are."""
    if isinstance(network, GlimpseGRUPolicy):
        rows = len(observation["features"])
        before = network.initial_state(rows) if state is None else state
        state = network.recur(observation, before, observation["features"].new_zeros(rows))
        action = network.action_net(state)
    elif isinstance(network, GlimpsePolicy):
        action = network.mean_action(observation)
    elif isinstance(network, RecurrentActorCriticPolicy):
        action, state = _lstm_action(network, observation, state)
    else:
        seen: Any = observation
        if isinstance(network.observation_space, spaces.Box):  # `FlattenObservation` joins the parts by name
            seen = torch.cat([observation[key].flatten(1) for key in sorted(observation)], dim=1)
        action = network._predict(seen, deterministic=True)
    if isinstance(network.action_space, spaces.Discrete):
        places = grid_actions(math.isqrt(int(network.action_space.n)))
        action = torch.from_numpy(places).to(action.device)[action.long()]
    return ((action + 1.0) / 2.0).clamp(0.0, 1.0), state


def _lstm_action(
    network: RecurrentActorCriticPolicy, observation: dict[str, Tensor], state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The action, and (B, 2, layers, units): hidden and cell state."""
    rows = len(observation["features"])
    if state is None:
        layers, _, units = network.lstm_hidden_state_shape
        state = observation["features"].new_zeros(rows, 2, layers, units)
    hidden, cell = state.movedim(0, 2).contiguous().unbind(0)  # (layers, B, units) each
    starts = observation["features"].new_zeros(rows)
    distribution, new = network.get_distribution(observation, (hidden, cell), starts)  # type: ignore[arg-type]  # Dict observations
    return distribution.get_actions(deterministic=True), torch.stack(new).movedim(2, 0)


def agent_locator(agent: BaseAlgorithm | FixedAgent) -> Locator:
    """An agent's deterministic policy as the classifier sees it, for stage III and evaluation.

    Args:
        agent: trained on an environment of ours; its own recurrent state, if any, is carried along.

    Returns:
        The locator.
    """
    if isinstance(agent, FixedAgent):
        return _fixed_locator(agent)
    policy = DeterministicPolicy(agent)

    def locate(glimpse: Glimpse, state: Any) -> tuple[Tensor, Any]:
        policy.network.set_training_mode(False)  # it may be in training between two calls
        location, state = policy(glimpse.features, state, hidden=glimpse.hidden)
        return location.clone(), state

    return locate


def _fixed_locator(agent: FixedAgent) -> Locator:
    def locate(glimpse: Glimpse, state: Any) -> tuple[Tensor, Any]:
        actions, state = agent.predict({"hidden": np.zeros((len(glimpse.logits), 0))}, state)
        return to_location(actions).to(glimpse.logits.device), state

    return locate
