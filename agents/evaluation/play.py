"""Episodes played in the environment itself, by its rules: what stopping, sizes and prices are judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from agents.evaluation.rollout import evenly_spread
from gfnet_env.actions import to_action
from gfnet_env.dynamics import GlanceFocusDynamics, to_numpy


@dataclass(frozen=True)
class Played:
    """The outcome of N episodes, one for each image.

    Attributes:
        label: (N,) int64.
        prediction: (N, T) int64 after each glimpse; from the last one that was taken on, it stays.
        returns: (N,) float64, sums of rewards.
        looks: (N,) int64, glimpses taken, 1 to T.
        multiply_adds: (N,) int64, spent by the classifier.
        score: (N,) float64, `info["score"]` at the end; NaN where the task has no scale.
    """

    label: np.ndarray
    prediction: np.ndarray
    returns: np.ndarray
    looks: np.ndarray
    multiply_adds: np.ndarray
    score: np.ndarray

    @property
    def accuracy(self) -> list[float]:
        """Accuracy after each of the T glimpses, in [0, 1]."""
        by_step: list[float] = (self.prediction == self.label[:, None]).mean(axis=0).tolist()
        return by_step


def play(env: VecEnv, policy: Any, *, max_images: int | None = None) -> Played:
    """Plays one episode on every image of an environment, without exploration noise.

    Args:
        env: a `GlanceFocusVectorEnv`, as `agents.as_sb3` adapts it to the policy.
        policy: a model of Stable-Baselines3 or anything else with its `predict`, a `LocationPolicy`, or a callable from
            the observations of B rows to the actions of B rows. Where actions are more than a place, a
            `LocationPolicy` needs a method `act(view, names)`, as `ReferencePolicy` has.
        max_images: play at most this many images, evenly spread over the source.

    Returns:
        The outcome.

    Raises:
        ValueError: if the policy is none, if what it returns is no action for each row, or if it says only where to
            look and the environment asks for more.
    """
    act = _actor(policy, env)
    images = evenly_spread(len(env.get_attr("task")[0].source), max_images).numpy()
    parts = []
    for batch in np.split(images, range(env.num_envs, len(images), env.num_envs)):
        played = _play_batch(env, act, np.resize(batch, env.num_envs))  # the last batch's images fill all rows
        parts.append({name: values[: len(batch)] for name, values in vars(played).items()})
    return Played(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


_Act = Callable[[Any, Any, np.ndarray], tuple[np.ndarray, Any]]
"""(observations, state, which rows begin an episode) -> (actions, state)."""


def _actor(policy: Any, env: VecEnv) -> _Act:
    if hasattr(policy, "predict"):
        return lambda seen, state, start: policy.predict(seen, state, start, deterministic=True)
    if not callable(policy):
        raise ValueError(
            f"a {type(policy).__name__} is no policy; pass a model of Stable-Baselines3, a LocationPolicy, or a "
            "callable from observations to actions"
        )
    if not hasattr(policy, "observation_keys"):
        return lambda seen, state, start: (_checked(policy(seen), env.num_envs), None)
    names, dynamics = env.get_attr("action_space")[0].names, env.get_attr("dynamics")[0]
    if len(names) > 2 and hasattr(policy, "act"):
        return lambda seen, state, start: (policy.act(dynamics.view(), names).numpy(), None)
    if len(names) > 2:
        raise ValueError(
            f"a {type(policy).__name__} says only where to look, actions are ({', '.join(names)}); pass a callable "
            "from observations to actions"
        )

    def look(seen: Any, state: Any, start: np.ndarray) -> tuple[np.ndarray, Any]:
        location, state = policy(dynamics.view(), state)
        return to_action(location), state

    return look


def _checked(actions: Any, count: int) -> np.ndarray:
    array = actions.detach().cpu().numpy() if isinstance(actions, torch.Tensor) else np.asarray(actions)
    if array.shape[:1] != (count,) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"the policy returned a {type(actions).__name__} of shape {array.shape} for {count} observations; return "
            "an array with one action for each"
        )
    return array


@torch.inference_mode()
def _play_batch(env: VecEnv, act: _Act, indices: np.ndarray) -> Played:
    """One episode in every row, on the images with (B,) indices; what rows do after its end is ignored."""
    count, dynamics = env.num_envs, env.get_attr("dynamics")[0]
    assert isinstance(dynamics, GlanceFocusDynamics)
    env.set_options({"index": indices})
    seen, first = env.reset(), to_numpy(dynamics.info())
    prediction = np.repeat(first["prediction"][:, None], dynamics.num_glimpses, axis=1)
    returns, score = np.zeros(count), np.full(count, np.nan)
    looks, multiply_adds = first["step"], first["multiply_adds"]
    going, start, state = np.ones(count, bool), np.ones(count, bool), None
    while going.any():
        actions, state = act(seen, state, start)
        seen, reward, start, infos = env.step(actions)
        returns[going] += reward[going]
        for row in np.flatnonzero(going).tolist():
            info = infos[row]
            prediction[row, info["step"] - 1 :] = info["prediction"]
            looks[row], multiply_adds[row] = info["step"], info["multiply_adds"]
            score[row] = info.get("score", np.nan)
        going &= ~start
    return Played(first["label"], prediction, returns, looks, multiply_adds, score)
