"""Any agent of Stable-Baselines3 as a policy, without exploration noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeGuard

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor

from agents.policies.actor_critic import GlimpseActorCriticPolicy
from agents.policies.off_policy import FlatGlimpseExtractor
from classifiers.networks.costs import count_multiply_adds
from classifiers.networks.glimpse import View
from gfnet_env.actions import GridSpace, grid_actions, to_location
from gfnet_env.observation import observe


class DeterministicPolicy:
    """An SB3 agent as a `LocationPolicy`: the mean action, never a sample.

    It decides where to look, not whether, nor at which size: what an agent decides beyond the place
    (`EpisodeSpec.stop_action`, `size_action`) is ignored, and every image gets all its glimpses, including those that
    the agent was never trained to take.

    Args:
        agent: an SB3 algorithm on one of our environments, or its policy. Its observations may be flattened or
            normalized by a `VecNormalize`; its actions may be rescaled linearly (`RescaleAction`) or on a grid
            (`GridAction`). Other wrappers of actions, such as `DiscretizeAction`, are followed where the algorithm
            still has its environment, in this process.
        observation_keys: names of the parts of a flattened observation, in order; None asks the agent.

    Raises:
        ValueError: if the observations are flat and the agent does not know their parts, or if it is unknown where an
            action looks; in a call, if an observation has another shape than in the policy's training.
    """

    def __init__(self, agent: BaseAlgorithm | BasePolicy, observation_keys: tuple[str, ...] | None = None) -> None:
        network = agent.policy if isinstance(agent, BaseAlgorithm) else agent
        assert isinstance(network, BasePolicy)
        self._to_inner = None if _is_known(network.action_space) else _action_wrapper(agent)
        if self._to_inner is None:
            _check_actions(network.action_space)
        self.network = network
        self.observation_keys = observation_keys or _observation_keys(agent, network)
        self._normalizer = agent.get_vec_normalize_env() if isinstance(agent, BaseAlgorithm) else None

    @cached_property
    def multiply_adds(self) -> int:
        """Cost of one decision for one image, without the value function."""
        space, device = self.network.observation_space, self.network.device
        parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        zeros = {key: torch.zeros(1, *(part.shape or ()), device=device) for key, part in parts.items()}
        self.network.set_training_mode(False)
        seen = zeros if isinstance(space, spaces.Dict) else zeros[""]
        return count_multiply_adds(self.network, lambda: _mean_action(self.network, seen, None))

    @torch.inference_mode()
    def __call__(self, view: View, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Decides where to look; the state is (B, ...), or None for a policy without memory."""
        self.network.set_training_mode(False)  # it may be trained between two calls
        with torch.autocast(view.step.device.type, enabled=False):  # bfloat16 would round locations to two pixels
            location, state = self.decide(observe(view, self.observation_keys), state)
        return location.clone(), state

    def decide(self, observation: Mapping[str, Tensor], state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One decision from an observation.

        Args:
            observation: float32 tensors by name, as `gfnet_env.observation.observe` makes them.
            state: (B, ...) what the previous call returned; None after the glance.

        Returns:
            The location (B, 2) in [0, 1] and the new state.

        Raises:
            ValueError: if an observation has another shape than in the policy's training.
        """
        seen: Any = {key: observation[key] for key in self.observation_keys}
        space = self.network.observation_space
        if isinstance(space, spaces.Dict):
            for key, part in space.items():
                if seen[key].shape[1:] != part.shape:
                    raise ValueError(
                        f"the policy reads {key} of shape {part.shape}, not {tuple(seen[key].shape[1:])}; use it with "
                        "the sizes of patches and glance, and the number of glimpses, that it was trained with"
                    )
        else:
            seen = torch.cat([part.flatten(1) for part in seen.values()], dim=1)
        if self._normalizer is not None:
            seen = _normalized(self._normalizer, seen)
        action, state = _mean_action(self.network, seen, state)
        if self._to_inner is not None:
            return to_location(torch.as_tensor(self._to_inner(action.cpu().numpy())).to(action.device)), state
        return _location(self.network, action), state


def _observation_keys(agent: BaseAlgorithm | BasePolicy, network: BasePolicy) -> tuple[str, ...]:
    """The parts of the observation that a network reads, in its order."""
    if isinstance(network.observation_space, spaces.Dict):
        return tuple(network.observation_space)
    flat = next((module for module in network.modules() if isinstance(module, FlatGlimpseExtractor)), None)
    if flat is not None:
        return flat.keys
    env = agent.get_env() if isinstance(agent, BaseAlgorithm) else None
    if env is None:
        raise ValueError(
            "the policy's observations are flat, so their parts are unknown; pass observation_keys=, for example "
            "('features', 'hidden')"
        )
    return tuple(sorted(env.get_attr("observation_keys")[0]))  # the order of `FlattenObservation`


def _is_known(space: spaces.Space[Any]) -> bool:
    """Whether an action space alone says where its actions look."""
    return isinstance(space, GridSpace) or (isinstance(space, spaces.Box) and space.is_bounded())


def _action_wrapper(agent: BaseAlgorithm | BasePolicy) -> Callable[[np.ndarray], np.ndarray] | None:
    """What the wrappers of an agent's environment make of B of its actions: (B, A) in [-1, 1]; None without any."""
    env = agent.get_env() if isinstance(agent, BaseAlgorithm) else None
    if env is None or not isinstance(env.unwrapped, DummyVecEnv):
        return None
    layer, wrappers = env.unwrapped.envs[0], list[gymnasium.ActionWrapper[Any, Any, Any]]()
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, gymnasium.ActionWrapper):
            wrappers.append(layer)
        layer = layer.env
    if not wrappers:
        return None

    def to_inner(actions: np.ndarray) -> np.ndarray:
        rows = []
        for action in actions:
            for wrapper in wrappers:
                action = wrapper.action(action)
            rows.append(action)
        return np.array(rows, dtype=np.float32)

    return to_inner


def _check_actions(space: spaces.Space[Any]) -> None:
    if not _is_known(space):
        raise ValueError(
            f"the agent's actions are {space}, and where they look is unknown; train it on our environment without a "
            "wrapper of its actions, with GridAction or RescaleAction, or pass the algorithm with its environment"
        )


def _normalized(normalizer: VecNormalize, seen: dict[str, Tensor] | Tensor) -> dict[str, Tensor] | Tensor:
    if isinstance(seen, Tensor):
        return torch.as_tensor(normalizer.normalize_obs(seen.cpu().numpy()), device=seen.device)
    normalized = normalizer.normalize_obs({key: value.cpu().numpy() for key, value in seen.items()})
    return {key: torch.as_tensor(normalized[key], device=value.device) for key, value in seen.items()}


def _mean_action(network: BasePolicy, seen: Any, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if isinstance(network, GlimpseActorCriticPolicy):
        return network.mean_action(seen, state)
    if isinstance(network, RecurrentActorCriticPolicy):
        return _lstm_action(network, seen, state)
    return network._predict(seen, deterministic=True), state


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


def _location(network: BasePolicy, action: Tensor) -> Tensor:
    """(B, 2) in [0, 1], where a network's action looks."""
    space = network.action_space
    if isinstance(space, GridSpace):
        action = torch.from_numpy(grid_actions(space.side)).to(action.device)[action.long()]
    elif _is_rescaled(space) and not network.squash_output:  # else the network's output is in [-1, 1]
        low, high = (torch.as_tensor(bound[:2], device=action.device) for bound in (space.low, space.high))
        action = 2.0 * (action[:, :2] - low) / (high - low) - 1.0
    return to_location(action)


def _is_rescaled(space: spaces.Space[Any]) -> TypeGuard[spaces.Box]:
    """Whether actions have other bounds than -1 and 1, as under `RescaleAction`."""
    return isinstance(space, spaces.Box) and bool((space.low[:2] != -1.0).any() or (space.high[:2] != 1.0).any())
