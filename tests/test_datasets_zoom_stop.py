"""ZoomStop: its scenes, and that size, stop and place all matter to the score."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from agents import as_sb3, play
from agents.leaderboard.trainers import MakeEnv, train_random
from agents.policies.baselines import ReferencePolicy
from classifiers.data.drawn_tasks.zoom_stop import ZoomStopSpec
from gfnet_env import TASKS
from gfnet_env.suite import SUITE

TASK = SUITE["zoom_stop"]


def test_half_of_the_scenes_are_empty_and_signs_have_all_sizes() -> None:
    spec = ZoomStopSpec()
    scenes = [spec.draw_scene("train", index) for index in range(200)]

    boxes = np.concatenate([scene.boxes for scene in scenes if scene.label])
    assert len(boxes) == pytest.approx(100, abs=4 * np.sqrt(50))
    assert all(not scene.boxes.any() for scene in scenes if scene.label == 0)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= [192, 256]).all()
    height = boxes[:, 2] - boxes[:, 0]
    assert height.min() >= 15 and height.max() <= 97
    shares = np.histogram(np.log(height), np.log([15, 29, 53, 98]))[0] / len(height)  # thirds of 16 to 96
    assert (np.abs(shares - 1 / 3) < 0.2).all()
    np.testing.assert_array_equal(spec.draw_scene("train", 3).image, scenes[3].image)
    assert {scene.label for scene in scenes} == set(range(10))


@pytest.mark.parametrize("wrong", [{"min_sign_px": 97}, {"max_sign_px": 97}])
def test_sizes_that_do_not_fit_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sign_px"):
        ZoomStopSpec(**wrong)


def test_actions_choose_place_stop_and_size_and_the_score_is_of_returns() -> None:
    env = gymnasium.make(TASK.env_id, num_scenes=4)
    assert env.spec is not None and env.spec.reward_threshold == TASK.reward_threshold
    assert env.get_wrapper_attr("action_space").names == ("row", "col", "stop", "size")
    assert env.get_wrapper_attr("dynamics").patch_sizes == (24, 48, 96)

    env.reset(seed=0)
    _, reward, finished, _, info = env.step(np.array([0, 0, 1, 0], np.float32))
    assert finished and reward == 0.0 and TASK.scale is not None
    assert info["score"] == pytest.approx(TASK.scale.score(0.0))
    env.reset(options={"index": 0})
    before = env.get_wrapper_attr("dynamics").info()["label_probability"][0]
    _, dear, _, _, info = env.step(np.array([0, 0, -1, 1], np.float32))
    assert dear == pytest.approx(info["label_probability"] - before - 0.3)


def test_the_reference_earns_what_the_scale_says_and_random_actions_do_not() -> None:
    env = as_sb3(gymnasium.make_vec(TASK.env_id, num_envs=50, split="test", num_scenes=200, autoreset_mode="SAME_STEP"))
    made = env.get_attr("task")[0]
    reference = ReferencePolicy(made.source.image_size, made.classifier.spec.patch_sizes)

    played = play(env, reference)
    at_random = play(env, train_random(MakeEnv(TASK.env_id, {"num_scenes": 4}), 0, 0))

    assert TASKS[TASK.env_id].scale == TASK.scale and TASK.scale is not None
    assert played.score.mean() == pytest.approx(1.0, abs=0.2)  # a standard error of 200 scenes is 0.06
    assert at_random.score.mean() == pytest.approx(0.0, abs=0.2)
    is_empty = played.label == 0
    assert (played.looks == np.where(is_empty, 1, 2)).all()
    right = played.prediction[:, -1] == played.label
    assert right.mean() > 0.9 and (played.prediction[:, 0] == played.label)[~is_empty].mean() < 0.3
