"""What Gymnasium and its users ask: ids, autoreset modes, infos, wrappers, pictures."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import SMALL_SCENES
from packaging.version import Version
from stable_baselines3.common.callbacks import EvalCallback

from agents import as_sb3, make_agent
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import TASKS, EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task
from gfnet_env.rendering import RIGHT, WRONG

SIGNS = "GFNet-SyntheticSigns-v0"
SMALL: dict[str, Any] = {"num_scenes": 20, "scenes": SMALL_SCENES}


def _vector(
    classifier: FrozenClassifier, scenes: ArrayImages, mode: str, num_envs: int = 3, **rules: Any
) -> GlanceFocusVectorEnv:
    task = Task(scenes, classifier)
    return GlanceFocusVectorEnv(task, EpisodeSpec(**rules), num_envs=num_envs, autoreset_mode=mode)


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", TASKS)
def test_every_id_is_registered_with_both_entry_points(env_id: str) -> None:
    spec = gymnasium.spec(env_id)

    assert isinstance(spec.entry_point, str) and isinstance(spec.vector_entry_point, str)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_ids_are_found_without_importing_the_package() -> None:
    code = f"import gymnasium as gym\nprint(gym.make('gfnet_env:{SIGNS}', num_scenes=2).spec.id)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == SIGNS


def test_options_pick_the_image() -> None:
    env, envs = gymnasium.make(SIGNS, **SMALL), gymnasium.make_vec(SIGNS, num_envs=3, **SMALL)

    assert env.reset(options={"index": 7})[1]["index"] == 7
    assert envs.reset(options={"index": [4, 0, 9]})[1]["index"].tolist() == [4, 0, 9]
    assert envs.reset(options={"index": np.int64(2)})[1]["index"].tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match=r"\['idx'\]"):
        env.reset(options={"idx": 3})


def test_steps_out_of_order_are_refused(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier.with_spec(num_glimpses=2)), EpisodeSpec())
    for _ in range(2):  # before the first reset, and after the last step
        with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
            env.step(np.zeros(2, np.float32))
        env.reset(seed=0)
        env.step(np.zeros(2, np.float32))
    with pytest.raises(RuntimeError, match=r"before reset\(\)"):
        _vector(classifier, scenes, "SAME_STEP").step(np.zeros((3, 2), np.float32))


# --- autoreset -------------------------------------------------------------------------------------------------------


def _one_row_ends(
    classifier: FrozenClassifier, scenes: ArrayImages, mode: str
) -> tuple[GlanceFocusVectorEnv, tuple[Any, Any], Any]:
    """An environment after a step in which row 0 looked and row 1 stopped, what it returned before, and there."""
    envs = _vector(classifier, scenes, mode, num_envs=2, stop_action=True, step_cost=0.1)
    before = envs.reset(seed=5)
    step = envs.step(np.array([[0.5, 0.5, -1.0], [0.5, 0.5, 1.0]], np.float32))
    assert step[2].tolist() == [False, True] and not step[3].any()
    assert step[1][0] != 0.0 and step[1][1] == 0.0
    return envs, before, step


def test_next_step_resets_one_step_late(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    envs, (before, first), (observation, *_, info) = _one_row_ends(classifier, scenes, "NEXT_STEP")
    assert info["stopped"].tolist() == [False, True]
    assert np.array_equal(observation["features"][1], before["features"][1])
    assert info["multiply_adds"].tolist() == [envs.dynamics.costs[:2].sum(), first["multiply_adds"][1]]

    _, reward, terminated, _, info = envs.step(np.array([[0, 0, -1], [0, 0, 1]], np.float32))

    assert not terminated.any() and reward[1] == 0.0  # row 1's action was ignored: it began anew
    assert not info["stopped"].any() and info["index"][1] != first["index"][1]
    assert (info["top_left_px"][1] == -1).all() and info["multiply_adds"][0] == envs.dynamics.costs[:3].sum()


def test_same_step_returns_the_last_observation_in_info(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    _, (before, first), (observation, *_, info) = _one_row_ends(classifier, scenes, "SAME_STEP")

    assert info["_final_obs"].tolist() == info["_final_info"].tolist() == [False, True]
    assert all(np.array_equal(info["final_obs"][1][key], before[key][1]) for key in before)
    assert info["final_info"]["stopped"][1] and info["final_info"]["prediction"][1] == first["prediction"][1]
    assert not info["stopped"].any() and (info["top_left_px"][1] == -1).all()  # the new episode's glance
    assert not np.array_equal(observation["features"][1], before["features"][1])


def test_disabled_waits_for_a_masked_reset(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    envs, _, (observation, *_) = _one_row_ends(classifier, scenes, "DISABLED")
    with pytest.raises(RuntimeError, match=r"rows \[1\] have finished"):
        envs.step(np.zeros((2, 3), np.float32))

    after, info = envs.reset(options={"reset_mask": np.array([False, True])})

    assert info["_index"].tolist() == [False, True] and not info["stopped"].any()
    assert np.array_equal(after["features"][0], observation["features"][0])
    assert not np.array_equal(after["features"][1], observation["features"][1])
    envs.step(np.zeros((2, 3), np.float32))


# --- info ------------------------------------------------------------------------------------------------------------


def test_info_says_where_how_sure_and_whether_it_succeeded(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec())

    _, first = env.reset(seed=0)
    assert first["step"] == 1 and np.isnan(first["location"]).all()
    assert 0.0 < first["entropy"] <= np.log(10) + 1e-6
    for index in range(3):
        env.reset(options={"index": index})
        for step, action in enumerate(([0.0, 1.0], [-0.5, 0.0], [-1.0, -1.0]), start=2):
            _, _, terminated, _, info = env.step(np.array(action, np.float32))
            assert info["step"] == step
            assert np.allclose(info["location"], (np.array(action) + 1.0) / 2.0)
            assert info.keys() == first.keys() and {key: type(info[key]) for key in info} == {
                key: type(value) for key, value in first.items()
            }
            assert info["is_success"] is (terminated and info["prediction"] == info["label"])


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_success_is_false_before_the_end(classifier: FrozenClassifier, scenes: ArrayImages, mode: str) -> None:
    """Every info has the same keys; in rows that ended, success is that of the last prediction."""
    env = _vector(classifier, scenes, mode, reward="increment", stop_action=True)
    index = int(np.flatnonzero(_is_right_at_a_glance(classifier, scenes))[0])
    _, first = env.reset(options={"index": [0, index, 0]})
    assert not first["is_success"].any() and first["_is_success"].all()
    stopping = np.array([[0, 0, -1], [0, 0, 1], [0, 0, -1]], np.float32)

    *_, terminated, _, info = env.step(stopping)

    assert terminated.tolist() == [False, True, False]
    final = info["final_info"] if mode == "SAME_STEP" else info
    assert final.keys() == first.keys() and first.keys() <= info.keys()
    assert final["is_success"].tolist() == [False, True, False]
    assert info["is_success"].any() == (mode != "SAME_STEP")


def _is_right_at_a_glance(classifier: FrozenClassifier, scenes: ArrayImages) -> np.ndarray:
    found: np.ndarray = (classifier.glance(scenes.images).logits.argmax(dim=1) == scenes.labels).numpy()
    return found


def test_sb3_logs_success_rates(classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path) -> None:
    short = classifier.with_spec(num_glimpses=2)
    callback = EvalCallback(
        as_sb3(_vector(short, scenes, "SAME_STEP", num_envs=4)),
        n_eval_episodes=24,
        eval_freq=2,
        log_path=str(tmp_path),
        verbose=0,
    )
    agent = make_agent("ppo", _vector(short, scenes, "SAME_STEP", num_envs=4), n_steps=2, batch_size=8, seed=0)
    agent.learn(8, callback=callback)

    assert np.load(tmp_path / "evaluations.npz")["successes"].shape == (1, 24)
    assert agent.ep_success_buffer is not None and len(agent.ep_success_buffer) == 8  # every training episode, too


# --- wrappers and pictures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_episode_statistics_wrapper(classifier: FrozenClassifier, scenes: ArrayImages, mode: str) -> None:
    """Lengths and returns of three episodes; before Gymnasium 1.4, `SAME_STEP` misses steps as documented."""
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(_vector(classifier, scenes, mode))
    envs.reset(seed=0)
    lengths, returns, totals, total = [], [], [], np.zeros(3)

    for _ in range(11):
        _, reward, terminated, _, info = envs.step(np.zeros((3, 2), np.float32))
        total = total + reward
        if terminated.all():
            lengths.append(info["episode"]["l"].tolist())
            returns.append(info["episode"]["r"])
            totals.append(total)
            total = np.zeros(3)

    if mode == "SAME_STEP" and Version(gymnasium.__version__) < Version("1.4"):
        assert lengths == [[3] * 3, [2] * 3, [2] * 3]
    else:
        assert lengths == [[3] * 3] * 3
        assert np.allclose(returns, totals, atol=1e-6)


def test_a_window_shows_the_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gymnasium.make(SIGNS, **SMALL, render_mode="human")
    expected = gymnasium.make(SIGNS, **SMALL, render_mode="rgb_array")
    for each in (env, expected):
        each.reset(seed=0)
        each.step(np.zeros(2, np.float32))

    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)

    assert np.array_equal(shown, expected.render())
    env.close()


def test_pictures_show_the_episode(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    """Also of a vector environment, and with patches of several sizes."""
    task = Task(scenes, classifier.with_spec(patch_sizes=(24, 32, 48)))
    envs = GlanceFocusVectorEnv(task, EpisodeSpec(), num_envs=2, render_mode="rgb_array")
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        envs.render()
    envs.reset(seed=0, options={"patch_sizes": [24, 32, 48]})
    frames = [envs.render()]
    for place in (-1.0, 1.0, 0.0):
        envs.step(np.full((2, 2), place, np.float32))
        frames.append(envs.render())

    for row in range(2):
        shown: list[Any] = [frame[row] for frame in frames if frame is not None]
        assert len(shown) == 4 and len({frame.shape for frame in shown}) == 1
        assert all(not np.array_equal(one, other) for one, other in itertools.pairwise(shown))


def test_boxes_are_green_when_right_and_orange_when_wrong(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec(), render_mode="rgb_array")
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    trace = env.dynamics.trace
    for label, color, other in (
        (trace.prediction[0, 1], RIGHT, WRONG),
        ((trace.prediction[0, 1] + 1) % 10, WRONG, RIGHT),
    ):
        trace.label[0], trace.looks[0, 0, 4] = label, trace.prediction[0, 1]
        frame = env.render()
        assert frame is not None
        assert (frame == np.array(color)).all(axis=2).sum() > 200
        assert not (frame == np.array(other)).all(axis=2).any()


def test_episodes_can_be_filmed(tmp_path: Path) -> None:
    env = gymnasium.wrappers.RecordVideo(
        gymnasium.make(SIGNS, **SMALL, render_mode="rgb_array"), str(tmp_path / "films"), disable_logger=True
    )
    env.reset(seed=0)
    while not env.step(env.action_space.sample())[2]:
        pass
    env.close()

    (film,) = (tmp_path / "films").glob("*.mp4")
    assert film.stat().st_size > 1000
