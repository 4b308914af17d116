"""Any agent of Stable-Baselines3 as a function from glimpses to places, without its noise."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from agents.policies.actor_critic import GlimpsePolicy
from agents.policies.fixed_agents import FixedAgent
from classifiers.networks.glance_focus import Glimpse, Locator
from gfnet_env.actions import grid_actions


class DeterministicPolicy:
    """pi without its noise: `location, state = policy(features, state)`. It says where to look, never to stop.

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
        if isinstance(self.network, GlimpsePolicy):
            return self.network.reads_hidden
        space = self.network.observation_space
        return not isinstance(space, spaces.Dict) or "hidden" in space.spaces

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
        seen = _observed(self.network.observation_space, {"features": features.float(), "hidden": hidden.float()})
        if self._normalizer is not None:
            seen = _normalised(self._normalizer, seen)
        with torch.autocast(features.device.type, enabled=False):  # places need more than eight bits
            return _decide(self.network, seen, state)


def _normalised(normalizer: VecNormalize, shown: dict[str, Tensor] | Tensor) -> dict[str, Tensor] | Tensor:
    if isinstance(shown, Tensor):
        return torch.as_tensor(normalizer.normalize_obs(shown.cpu().numpy()), device=shown.device)
    normalised = normalizer.normalize_obs({key: value.cpu().numpy() for key, value in shown.items()})
    return {key: torch.as_tensor(normalised[key], device=value.device) for key, value in shown.items()}


def decide(network: BasePolicy, observation: dict[str, Tensor], state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """One deterministic decision; see `DeterministicPolicy`, whose shapes these are."""
    return _decide(network, _observed(network.observation_space, observation), state)


def _decide(network: BasePolicy, seen: Any, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if isinstance(network, GlimpsePolicy):
        action, state = network.mean_action(seen, state)
    elif isinstance(network, RecurrentActorCriticPolicy):
        action, state = _lstm_action(network, seen, state)
    else:
        action = network._predict(seen, deterministic=True)
    if isinstance(network.action_space, spaces.Discrete):
        places = grid_actions(math.isqrt(int(network.action_space.n)))
        action = torch.from_numpy(places).to(action.device)[action.long()]
    return ((action[:, :2] + 1.0) / 2.0).clamp(0.0, 1.0), state


def _observed(space: spaces.Space[Any], parts: dict[str, Tensor]) -> dict[str, Tensor] | Tensor:
    """The parts that a policy was shown, or these joined as `FlattenObservation` joins them: by name."""
    if isinstance(space, spaces.Dict):
        return {key: parts[key] for key in space}
    flat = {key: part.flatten(1) for key, part in sorted(parts.items())}
    size = (space.shape or (0,))[0]
    return next((part for part in flat.values() if part.shape[1] == size), torch.cat(list(flat.values()), dim=1))


def _lstm_action(
    network: RecurrentActorCriticPolicy, observation: dict[str, Tensor], state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The action, and (B, 2, layers, units): hidden and cell state."""
    example = next(iter(observation.values()))
    if state is None:
        layers, _, units = network.lstm_hidden_state_shape
        state = example.new_zeros(len(example), 2, layers, units)
    hidden, cell = state.movedim(0, 2).contiguous().unbind(0)  # (layers, B, units) each
    features = BasePolicy.extract_features(network, observation, network.pi_features_extractor)
    output, (hidden, cell) = network.lstm_actor(features[None], (hidden, cell))
    action = network.action_net(network.mlp_extractor.forward_actor(output[0]))
    return action, torch.stack([hidden, cell]).movedim(2, 0)


def agent_locator(agent: BaseAlgorithm | FixedAgent) -> Locator:
    """An agent's deterministic policy as the classifier sees it, for stage III and evaluation.

    A locator says where to look, not whether: of an agent that may stop (`EpisodeSpec.stop_action`), its stops are left
    out and every image gets all its looks, those included that the agent was never trained to take.

    Args:
        agent: trained on an environment of ours; its own recurrent state, if any, is carried along.

    Returns:
        The locator.
    """
    if isinstance(agent, FixedAgent):
        return agent.locate
    policy = DeterministicPolicy(agent)

    def locate(glimpse: Glimpse, state: Any) -> tuple[Tensor, Any]:
        policy.network.set_training_mode(False)  # it may be in training between two calls
        location, state = policy(glimpse.features, state, hidden=glimpse.hidden)
        return location.clone(), state

    return locate
