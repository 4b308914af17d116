"""Times stage II as `gfnet train` runs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from agents.algorithms.stage2 import train_agent
from agents.runs.config import RunConfig
from agents.runs.new_agent import new_agent, policy_env
from classifiers.data.source import ImageSource
from classifiers.inference.frozen import FrozenClassifier


def with_few_envs(config: RunConfig, num_envs: int) -> RunConfig:
    """The same run with fewer environments in stage II, its batches smaller in proportion."""
    spec = config.stage2
    options = dict(spec.options)
    if spec.num_envs is not None and "batch_size" in options:
        options["batch_size"] = max(1, options["batch_size"] * num_envs // spec.num_envs)
    return config.replace(stage2=spec.replace(num_envs=num_envs, options=options))


def seconds_per_step(
    classifier: FrozenClassifier,
    source: ImageSource,
    config: RunConfig,
    rollouts: int,
    between: Callable[[int, int], None] | None = None,
) -> list[float]:
    """Trains a new agent and times every rollout together with the update before it.

    Args:
        classifier: the networks.
        source: the images.
        config: of the run.
        rollouts: how many are timed; one more, which warms up or compiles, comes first.
        between: called after each rollout, the first one included, with its steps of one environment and the number of
            episodes that began in it; its time is not counted.

    Returns:
        Seconds per environment step, for each rollout.
    """
    env = policy_env(classifier, source, config.stage2)
    agent: Any = new_agent(env, config.stage2, seed=0)
    seconds: list[float] = []
    since = time.perf_counter()

    def on_rollout(done: int, total: int, figures: dict[str, float]) -> None:
        nonlocal since
        seconds.append(time.perf_counter() - since)
        if between is not None:
            between(agent.n_steps, int(agent.rollout_buffer.episode_starts.sum()))
        since = time.perf_counter()

    steps = agent.n_steps * agent.n_envs
    train_agent(agent, (rollouts + 1) * steps, seed=0, on_rollout=on_rollout)
    return [rollout / steps for rollout in seconds[1:]]
