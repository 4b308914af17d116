"""Environments in forked processes, which have none of the threads of their parent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import SubprocVecEnv

ID = "GFNet-SyntheticGestures-v0"  # threads draw its clips
ACTION = np.array([0.3, -0.4], np.float32)

pytestmark = [
    pytest.mark.timeout(120),  # where they hang
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # of Python 3.12, in a process with threads
]


@pytest.fixture
def env() -> Iterator[gymnasium.Env[Any, Any]]:
    """An environment in use, beside threads of torch's."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.rand(4_000_000).exp()
    made = gymnasium.make(ID, num_clips=6)
    made.reset(seed=0)
    made.step(ACTION)
    yield made
    torch.set_num_threads(num_threads)
    made.close()


def _outcome(env: gymnasium.Env[Any, Any], seed: int) -> tuple[int, float]:
    _, info = env.reset(seed=seed)
    return info["index"], float(env.step(ACTION)[1])


def test_asynchronous_vector_environments(env: gymnasium.Env[Any, Any]) -> None:
    envs: Any = gymnasium.make_vec(ID, 2, vectorization_mode="async", vector_kwargs={"context": "fork"}, num_clips=6)

    _, info = envs.reset(seed=3)
    _, reward, *_ = envs.step(np.stack([ACTION, ACTION]))

    expected = [_outcome(env, seed) for seed in (3, 4)]
    assert info["index"].tolist() == [index for index, _ in expected]
    assert reward == pytest.approx([gain for _, gain in expected], abs=1e-5)
    envs.close()


@pytest.mark.filterwarnings("ignore:.*A Box observation space m..imum value is -?infinity:UserWarning")
def test_subprocesses_of_stable_baselines3(env: gymnasium.Env[Any, Any]) -> None:
    """Their environment is a copy of one in use, whose threads are gone."""
    makers: list[Callable[[], Any]] = [lambda: env, lambda: env]
    envs = SubprocVecEnv(makers, start_method="fork")

    envs.seed(3)
    envs.reset()
    _, reward, _, info = envs.step(np.stack([ACTION, ACTION]))

    expected = [_outcome(env, seed) for seed in (3, 4)]
    assert [each["index"] for each in info] == [index for index, _ in expected]
    assert reward == pytest.approx([gain for _, gain in expected], abs=1e-5)
    envs.close()
