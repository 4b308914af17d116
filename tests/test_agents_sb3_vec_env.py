"""`SB3VecEnv` beside SB3's `DummyVecEnv` of single environments, call by call."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from agents.algorithms.sb3_vec_env import SB3VecEnv
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task

ROWS = 3
EARLY = EpisodeSpec(exit_confidence=0.1245)  # random weights: episodes of one, two or three focus steps


def _vector_env(classifier: FrozenClassifier, scenes: ArrayImages, **options: Any) -> GlanceFocusVectorEnv:
    return GlanceFocusVectorEnv(
        Task(scenes, classifier), EARLY, num_envs=ROWS, autoreset_mode="SAME_STEP", render_mode="rgb_array", **options
    )


@pytest.fixture
def ours(classifier: FrozenClassifier, scenes: ArrayImages) -> SB3VecEnv:
    return SB3VecEnv(_vector_env(classifier, scenes))


@pytest.fixture
def dummy(classifier: FrozenClassifier, scenes: ArrayImages) -> DummyVecEnv:
    task = Task(scenes, classifier)
    return DummyVecEnv([lambda: GlanceFocusEnv(task, EARLY, render_mode="rgb_array")] * ROWS)


def _equal(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(_equal(value, theirs[key]) for key, value in mine.items())
    if isinstance(mine, list | tuple):
        return len(mine) == len(theirs) and all(map(_equal, mine, theirs))
    return np.allclose(mine, theirs, atol=1e-5, equal_nan=True)  # the glance has no location: NaN


def test_seeds_resets_and_steps_are_those_of_single_environments(ours: SB3VecEnv, dummy: DummyVecEnv) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (10, ROWS, 2)).astype(np.float32)

    def run(env: VecEnv) -> list[Any]:
        seen: list[Any] = [env.seed(5), env.reset(), [*env.reset_infos]]
        for action in actions:
            seen += [*env.step(action), [*env.reset_infos]]
        return seen

    mine, theirs = run(ours), run(dummy)

    assert sum(done.sum() for done in mine[5::5]) > ROWS  # episodes ended and began
    assert [part.dtype for part in mine[4:6]] == [part.dtype for part in theirs[4:6]]
    for index, (part, expected) in enumerate(zip(mine, theirs, strict=True)):
        assert _equal(part, expected), index


def test_options_hold_for_the_next_reset_alone(ours: SB3VecEnv, dummy: DummyVecEnv) -> None:
    def run(env: VecEnv, options: Any) -> list[int]:
        env.seed(7)
        env.set_options(options)
        env.reset()
        chosen = [info["index"] for info in env.reset_infos]
        env.seed(7)
        env.reset()
        return [*chosen, *(info["index"] for info in env.reset_infos)]

    for options in ({"index": 3}, [{"index": 4}, {}, {"index": 5}]):
        assert run(ours, options) == run(dummy, options)
    ours.set_options({"index": [6, 7, 8]})  # one for each row: a vector environment's own option
    ours.reset()
    assert [info["index"] for info in ours.reset_infos] == [6, 7, 8]


def test_attributes_and_methods(ours: SB3VecEnv, dummy: DummyVecEnv) -> None:
    for env in (ours, dummy):
        env.seed(5)
        env.reset()
    for name in ("np_random_seed", "render_mode", "observation_space", "action_space"):
        assert ours.get_attr(name) == dummy.get_attr(name)
        assert ours.get_attr(name, [2, 0]) == dummy.get_attr(name, [2, 0])
    draws = [[rng.random() for rng in env.get_attr("np_random")] for env in (ours, dummy)]
    assert draws[0] == draws[1]
    assert ours.get_attr("dynamics", 0) == [ours.env.unwrapped.dynamics]  # type: ignore[attr-defined]  # ours
    assert ours.has_attr("dynamics") and not ours.has_attr("dynamix")
    assert ours.getattr_depth_check("num_envs", True) == f"{SB3VecEnv.__module__}.SB3VecEnv"
    assert dummy.getattr_depth_check("dynamics", True) is ours.getattr_depth_check("dynamics", True) is None
    assert ours.metadata == ours.env.metadata
    assert _equal([*ours.get_images()], [*dummy.get_images()])
    assert ours.env_method("state_dict")[2].keys() == ours.env.state_dict().keys()  # type: ignore[attr-defined]  # ours

    for env in (ours, dummy):
        env.set_attr("note", "mine")
        assert env.get_attr("note") == ["mine"] * ROWS
    for call in (ours.env_method, lambda name, indices: ours.set_attr(name, None, indices=indices)):
        with pytest.raises(ValueError, match="indices"):
            call("state_dict", indices=[0])


def test_wrappers_below_are_found_and_their_statistics_handed_over(
    classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    env = SB3VecEnv(RecordEpisodeStatistics(_vector_env(classifier, scenes)))
    assert env.env_is_wrapped(RecordEpisodeStatistics) == [True] * ROWS
    assert env.env_is_wrapped(Monitor, [0]) == [False]
    env.seed(0)
    env.reset()
    returns, episodes = np.zeros(ROWS), []
    for _ in range(3):
        _, reward, done, infos = env.step(np.zeros((ROWS, 2), np.float32))
        returns += reward
        for row in np.flatnonzero(done):
            episodes.append(infos[row]["episode"]["r"])
            assert episodes[-1] == pytest.approx(returns[row], abs=1e-5)
            returns[row] = 0.0
        assert all("episode" not in infos[row] for row in np.flatnonzero(~done))
        assert all("episode" not in info for info in env.reset_infos)
    assert len(episodes) >= ROWS
    env.set_attr("task", None)
    assert env.env.unwrapped.task is None  # type: ignore[attr-defined]  # set where it is, not on the wrapper


def test_environments_of_gymnasium_work_too() -> None:
    make = [lambda: gymnasium.make("CartPole-v1")] * 2
    ours = SB3VecEnv(SyncVectorEnv(make, autoreset_mode=AutoresetMode.SAME_STEP))
    dummy = DummyVecEnv(make)
    for env in (ours, dummy):
        env.seed(0)
        env.reset()
    for _ in range(12):
        mine, theirs = ours.step(np.zeros(2, int)), dummy.step(np.zeros(2, int))
        assert all(map(_equal, mine, theirs))


def test_other_autoreset_modes_are_refused(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    with pytest.raises(ValueError, match="NEXT_STEP"):
        SB3VecEnv(GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=2))
