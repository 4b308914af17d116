"""What learns without a recipe in `agents.algorithms.registry`: baselines, and algorithms of other libraries."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from torch import Tensor

from agents.algorithms.registry import AGENTS
from agents.algorithms.stage2 import train_agent
from agents.policies.baselines import CenterCornerPolicy, ReferencePolicy, ScanPolicy
from agents.policies.box_regression import train_box_policy
from agents.policies.deterministic import DeterministicPolicy
from agents.runs.config import Stage2Spec
from agents.runs.run import new_agent
from classifiers.checks import did_you_mean
from gfnet_env import GlanceFocusVectorEnv


class MakeEnv:
    """Makes the environments of a task, and counts the steps that are taken in those of the training split.

    Args:
        task: id of the environment.
        rules: arguments of `gymnasium.make_vec` that are not its defaults.
    """

    def __init__(self, task: str, rules: dict[str, Any]) -> None:
        self._task, self._rules = task, rules
        self._training: list[GlanceFocusVectorEnv] = []

    def __call__(
        self, num_envs: int = 64, *, split: str = "train", autoreset_mode: str = "SAME_STEP", **rules: Any
    ) -> GlanceFocusVectorEnv:
        """A vector environment.

        Args:
            num_envs: number B of rows.
            split: `"train"`, or `"val"` to choose by.
            autoreset_mode: see `GlanceFocusVectorEnv`.
            **rules: arguments of `gymnasium.make_vec`, which the leaderboard's own override.
        """
        arguments = {**rules, **self._rules}
        env = gymnasium.make_vec(self._task, num_envs=num_envs, split=split, autoreset_mode=autoreset_mode, **arguments)
        assert isinstance(env, GlanceFocusVectorEnv)
        if split == "train":
            self._training.append(env)
        return env

    @property
    def steps_taken(self) -> int:
        """Steps taken so far in the environments of the training split."""
        return sum(env.steps_taken for env in self._training)


Train = Callable[[MakeEnv, int, int], Any]
"""`train(make_env, steps, seed)` learns from so many environment steps and returns a policy that `agents.evaluate`
takes: a model of Stable-Baselines3, a `LocationPolicy`, or a callable from observations to actions, of B rows each."""


def train_random(make_env: MakeEnv, steps: int, seed: int) -> Any:
    """Uniformly random actions: places and, where the task has them, sizes and stops."""
    rng = np.random.default_rng(seed)
    width = len(make_env(1, split="val").dynamics.spec.action_names)

    def act(observation: dict[str, np.ndarray]) -> np.ndarray:
        count = len(next(iter(observation.values())))
        return rng.uniform(-1.0, 1.0, (count, width)).astype(np.float32)

    return act


def train_center_corner(make_env: MakeEnv, steps: int, seed: int) -> Any:
    """First the center, then the corners (Table 5)."""
    return CenterCornerPolicy()


def train_scan(make_env: MakeEnv, steps: int, seed: int) -> Any:
    """A blind search without repeats, see `ScanPolicy`."""
    task = make_env(1, split="val").task
    return ScanPolicy(task.source.image_size, task.classifier.spec.patch_size, seed)


def train_reference(make_env: MakeEnv, steps: int, seed: int) -> Any:
    """Visits the boxes, which it sees and agents don't, see `ReferencePolicy`."""
    task = make_env(1, split="val").task
    return ReferencePolicy(task.source.image_size, task.classifier.spec.patch_sizes)


def train_box_regression(make_env: MakeEnv, steps: int, seed: int) -> Any:
    """Is told the boxes of the first 600 training images, and no reward, see `train_box_policy`."""
    return train_box_policy(make_env(1).task, seed=seed)


def train_greedy_entropy(make_env: MakeEnv, steps: int, seed: int) -> Any:
    """Looks where the entropy of the prediction falls most, as far as a small network can tell.

    It is `dqn` with discount 0, and its reward is that fall: no label is seen, and no later look is counted.
    """
    env = make_env(AGENTS["dqn"].num_envs, reward=entropy_fall)
    if env.dynamics.spec.reward is not entropy_fall:
        raise ValueError("greedy_entropy has a reward of its own; leave out rules.reward, or pass agent dqn")
    agent = new_agent(env, Stage2Spec(env_steps=steps, agent="dqn", options={"gamma": 0.0}), seed, prefix="")
    train_agent(agent, steps, seed=seed)
    return DeterministicPolicy(agent)


def entropy_fall(entropy: Tensor, previous_entropy: Tensor) -> Tensor:
    """(B,) by how many nats a glimpse lowers the entropy of the prediction; below 0 where it rises."""
    return previous_entropy - entropy


TRAINERS: dict[str, Train] = {
    "random": train_random,
    "center_corner": train_center_corner,
    "scan": train_scan,
    "reference": train_reference,
    "box_regression": train_box_regression,
    "greedy_entropy": train_greedy_entropy,
}
"""The baselines of a leaderboard, by name."""


def load_trainer(name: str) -> Train:
    """The function of a baseline, or of an algorithm in a module of one's own.

    Args:
        name: a key of `TRAINERS`, or `"module:function"`.

    Returns:
        The function.

    Raises:
        ModuleNotFoundError: if there is no such module.
        ValueError: if the module has no such function.
    """
    if name in TRAINERS:
        return TRAINERS[name]
    module_name, _, function = name.partition(":")
    module = importlib.import_module(module_name)
    train = getattr(module, function or "train", None)
    if not callable(train):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        hint = did_you_mean(function, public)
        raise ValueError(
            f"--external {name}: {module_name} has no function {function!r}; {hint}define "
            "train(make_env, steps, seed), which returns a policy"
        )
    return train  # type: ignore[no-any-return]
