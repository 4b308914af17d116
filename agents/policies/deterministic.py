"""Any agent of Stable-Baselines3 as a policy, without exploration noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from agents.policies.actor_critic import GlimpseActorCriticPolicy
from agents.policies.off_policy import FlatGlimpseExtractor
from classifiers.networks.costs import count_multiply_adds
from classifiers.networks.glimpse import View
from gfnet_env.actions import grid_actions, to_location
from gfnet_env.observation import SIZE_KEYS, observe


class DeterministicPolicy:
    """An SB3 agent as a `LocationPolicy`: the mean action, never a sample.

    It decides where to look, not whether, nor at which size: what an agent decides beyond the place
    (`EpisodeSpec.stop_action`, `size_action`) is ignored, and every image gets all its looks, including those that the
    agent was never trained to take.

    Args:
        agent: an SB3 algorithm on one of our environments, or its policy. Its observations may be flattened or
            normalised by a `VecNormalize`, and its actions may be on a grid.
        observation_keys: names of the parts of a flattened observation, in order; None asks the agent.

    Raises:
        ValueError: if the observations are flat and the agent does not know their parts; in a call, if patches have
            another number of sizes than in the policy's training, or an observation another shape.
    """

    def __init__(self, agent: BaseAlgorithm | BasePolicy, observation_keys: tuple[str, ...] | None = None) -> None:
        network = agent.policy if isinstance(agent, BaseAlgorithm) else agent
        assert isinstance(network, BasePolicy)
        self.network = network
        self.observation_keys = _observed_keys(agent, network) if observation_keys is None else observation_keys
        self._normalizer = agent.get_vec_normalize_env() if isinstance(agent, BaseAlgorithm) else None
        self._num_sizes = _trained_sizes(agent, network, self.observation_keys)

    @cached_property
    def multiply_adds(self) -> int:
        """Cost of one decision for one image, without the value function."""
        shapes = self.network.observation_space
        device = self.network.device
        if isinstance(shapes, spaces.Dict):
            seen: Any = {key: torch.zeros(1, *(part.shape or ()), device=device) for key, part in shapes.items()}
        else:
            seen = torch.zeros(1, *(shapes.shape or ()), device=device)
        self.network.set_training_mode(False)
        return count_multiply_adds(self.network, lambda: _decide(self.network, seen, None))

    @torch.inference_mode()
    def __call__(self, view: View, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `LocationPolicy.__call__`; the state is (B, ...), or None for a policy without memory."""
        self.network.set_training_mode(False)  # it may be trained between two calls
        self._check_sizes(1 if view.next_size is None else view.next_size.shape[1])
        with torch.autocast(view.step.device.type, enabled=False):  # bfloat16 would round locations to two pixels
            location, state = self.decide(observe(view, self.observation_keys), state)
        return location.clone(), state

    def _check_sizes(self, found: int) -> None:
        trained = self._num_sizes
        if trained is not None and trained != found:
            then, now = (f"{each} sizes" if each > 1 else "one size" for each in (trained, found))
            raise ValueError(
                f"the policy was trained with patches of {then}, not of {now}; use it with the patch sizes that it was "
                "trained with, or train another one"
            )

    def decide(self, observation: Mapping[str, Tensor], state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One decision from an observation; see `__call__`.

        Args:
            observation: float32 tensors by name, as `gfnet_env.observation.observe` makes them.
            state: (B, ...) what the previous call returned; None after the glance.

        Returns:
            The location (B, 2) in [0, 1] and the new state.

        Raises:
            ValueError: if an observation has another shape than in the policy's training.
        """
        seen: Any = {key: observation[key] for key in self.observation_keys}
        if isinstance(self.network.observation_space, spaces.Dict):
            for key, part in self.network.observation_space.items():
                if seen[key].shape[1:] != part.shape:
                    raise ValueError(
                        f"the policy reads {key} of shape {part.shape}, not {tuple(seen[key].shape[1:])}; use it with "
                        "the sizes of patches and glance, and the number of glimpses, that it was trained with"
                    )
        if not isinstance(self.network.observation_space, spaces.Dict):
            seen = torch.cat([part.flatten(1) for part in seen.values()], dim=1)
        if self._normalizer is not None:
            seen = _normalised(self._normalizer, seen)
        return _decide(self.network, seen, state)


def _observed_keys(agent: BaseAlgorithm | BasePolicy, network: BasePolicy) -> tuple[str, ...]:
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
    return tuple(sorted(env.get_attr("dynamics")[0].observation_keys))  # the order of `FlattenObservation`


def _trained_sizes(
    agent: BaseAlgorithm | BasePolicy, network: BasePolicy, observation_keys: tuple[str, ...]
) -> int | None:
    """How many sizes of patches a policy knows: those that it reads, else those of its environment; None if unknown."""
    parts = network.observation_space
    for module in network.modules():
        parts = module.parts if isinstance(module, FlatGlimpseExtractor) else parts
    read = [key for key in SIZE_KEYS if key in observation_keys]
    if read and isinstance(parts, spaces.Dict):
        return math.prod(parts[read[0]].shape or ())
    env = agent.get_env() if isinstance(agent, BaseAlgorithm) else None
    try:
        return len(env.get_attr("dynamics")[0].patch_sizes) if env is not None else None if read else 1
    except AttributeError:  # an environment of somebody else
        return None


def _normalised(normalizer: VecNormalize, seen: dict[str, Tensor] | Tensor) -> dict[str, Tensor] | Tensor:
    if isinstance(seen, Tensor):
        return torch.as_tensor(normalizer.normalize_obs(seen.cpu().numpy()), device=seen.device)
    normalised = normalizer.normalize_obs({key: value.cpu().numpy() for key, value in seen.items()})
    return {key: torch.as_tensor(normalised[key], device=value.device) for key, value in seen.items()}


def _decide(network: BasePolicy, seen: Any, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if isinstance(network, GlimpseActorCriticPolicy):
        action, state = network.mean_action(seen, state)
    elif isinstance(network, RecurrentActorCriticPolicy):
        action, state = _lstm_action(network, seen, state)
    else:
        action = network._predict(seen, deterministic=True)
    if isinstance(network.action_space, spaces.Discrete):
        places = grid_actions(math.isqrt(int(network.action_space.n)))
        action = torch.from_numpy(places).to(action.device)[action.long()]
    return to_location(action), state


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
