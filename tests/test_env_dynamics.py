"""The MDP in closed form: rewards, prices, stops, exits, observations; and what must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from red_corner import GRAY, MEAN, RED, MakeClassifier, action, red_probability

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task
from gfnet_env.glance_cache import GlanceCache
from gfnet_env.rewards import contrastive_reward, increment_reward


@pytest.fixture
def red_corner(color_classifier: MakeClassifier, red_corner_images: ArrayImages) -> Task:
    return Task(red_corner_images, color_classifier())


# --- rewards ---------------------------------------------------------------------------------------------------------


def test_rewards_are_equations_4_and_8() -> None:
    probability, before = torch.tensor([0.9, 0.2]), torch.tensor([0.5, 0.4])

    assert increment_reward(probability, before).tolist() == pytest.approx([0.4, -0.2])
    random = torch.tensor([[0.3, 0.1], [0.5, 0.5]])
    assert contrastive_reward(probability, random).tolist() == pytest.approx([0.5, -0.1])


@pytest.mark.parametrize("step_cost", [0.0, 0.25])
def test_increments_in_closed_form(red_corner: Task, step_cost: float) -> None:
    env = GlanceFocusEnv(red_corner, EpisodeSpec(reward="increment", step_cost=step_cost))

    _, info = env.reset(seed=0)
    assert info["label_probability"] == pytest.approx(red_probability(MEAN), abs=1e-5)
    _, reward, *ends, info = env.step(action(1, 1))
    assert reward == pytest.approx(red_probability(MEAN, RED) - red_probability(MEAN) - step_cost, abs=1e-5)
    assert ends == [False, False] and info["top_left_px"].tolist() == [24, 24]
    _, reward, *ends, _ = env.step(action(-1, -1))
    assert reward == pytest.approx(red_probability(MEAN, RED, GRAY) - red_probability(MEAN, RED) - step_cost, abs=1e-5)
    assert ends == [True, False]


def test_contrastive_reward_compares_with_random_places(red_corner: Task) -> None:
    """With many samples the mean over random places nears the mean over all places, which can be counted."""
    env = GlanceFocusEnv(red_corner, EpisodeSpec(reward_samples=4000))
    env.reset(seed=0)

    _, reward, *_ = env.step(action(1, 1))

    by_overlap = []
    for row in range(24):  # floor(l * 24) of a uniform l: 0 to 23
        for column in range(24):
            share = max(0, row - 16) * max(0, column - 16) / 64
            by_overlap.append(red_probability(MEAN, (120 + 135 * share, 120 - 120 * share)))
    assert reward == pytest.approx(red_probability(MEAN, RED) - float(np.mean(by_overlap)), abs=0.01)


def test_increments_sum_to_last_minus_first(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(reward="increment"), num_envs=8)
    _, info = env.reset(seed=3)
    env.action_space.seed(0)
    first, total = info["label_probability"], np.zeros(8)

    for _ in range(3):
        _, reward, terminated, _, info = env.step(env.action_space.sample())
        total += reward

    assert terminated.all()
    assert np.allclose(total, info["label_probability"] - first, atol=1e-6)


@pytest.mark.parametrize("reward", ["increment", "contrastive"])
def test_step_cost_changes_the_reward_only(classifier: FrozenClassifier, scenes: ArrayImages, reward: str) -> None:
    free, priced = (
        GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(reward=reward, step_cost=cost), num_envs=4)
        for cost in (0.0, 0.1)
    )
    free.action_space.seed(0)
    free.reset(seed=0)
    priced.reset(seed=0)

    for step in range(5):
        actions = free.action_space.sample()
        (one, gain, over, *_), (other, net, also_over, *_) = free.step(actions), priced.step(actions)
        is_reset = step == 3  # after three focus steps, a step that begins anew and costs nothing
        assert np.allclose(gain - net, 0.0 if is_reset else 0.1, atol=1e-12)
        assert np.array_equal(over, also_over)
        assert all(np.array_equal(one[key], other[key]) for key in one)


# --- the end of an episode -------------------------------------------------------------------------------------------


def test_confident_episodes_end_early(color_classifier: MakeClassifier, red_corner_images: ArrayImages) -> None:
    task = Task(red_corner_images, color_classifier(num_glimpses=4))
    env = GlanceFocusEnv(task, EpisodeSpec(exit_confidence=0.75))
    env.reset(seed=0)

    assert not env.step(action(-1, -1))[2]
    _, _, terminated, truncated, info = env.step(action(1, 1))

    assert info["confidence"] > 0.75
    assert terminated and not truncated


def test_stopping_costs_nothing_and_earns_nothing(red_corner: Task) -> None:
    env = GlanceFocusEnv(red_corner, EpisodeSpec(reward="increment", step_cost=0.25, stop_action=True))
    env.reset(seed=0)
    observation, *_, before = env.step(action(1, 1, 0.0))  # 0 is not above 0: it looks
    assert before["stopped"] is False and before["top_left_px"].tolist() == [24, 24]

    after, reward, terminated, truncated, info = env.step(action(-1, -1, 1e-3))

    assert (reward, terminated, truncated) == (0.0, True, False)
    assert all(np.array_equal(observation[key], after[key]) for key in observation)
    assert info["stopped"] is True
    for key in before.keys() - {"stopped", "is_success"}:  # prediction, multiply-adds and all else as they were
        assert np.array_equal(info[key], before[key]), key
    assert env.reset(seed=1)[1]["stopped"] is False


def test_an_episode_may_stop_after_the_glance(
    classifier: FrozenClassifier, scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a step in which all rows stop encodes nothing."""
    envs = GlanceFocusVectorEnv(
        Task(scenes, classifier), EpisodeSpec(stop_action=True), num_envs=3, autoreset_mode="DISABLED"
    )
    _, first = envs.reset(seed=0)
    monkeypatch.setattr(FrozenClassifier, "focus", None)

    _, reward, terminated, _, info = envs.step(np.ones((3, 3), np.float32))

    assert terminated.all() and not reward.any()
    assert (info["multiply_adds"] == envs.dynamics.costs[0]).all()
    assert np.array_equal(info["prediction"], first["prediction"]) and (info["top_left_px"] == -1).all()


# --- observations ----------------------------------------------------------------------------------------------------


def _after(env: GlanceFocusEnv, *actions: tuple[float, float]) -> dict[str, np.ndarray]:
    observation, _ = env.reset(options={"index": 0})
    for place in actions:
        observation, *_ = env.step(action(*place))
    return observation


def test_default_observations_tell_patches_of_a_flat_background_apart(red_corner: Task) -> None:
    env = GlanceFocusEnv(red_corner, EpisodeSpec())

    left, right = _after(env, (-1.0, -1.0)), _after(env, (-1.0, 0.5))

    assert np.array_equal(left["features"], right["features"]) and np.array_equal(left["hidden"], right["hidden"])
    assert not np.array_equal(left["locations"], right["locations"])


def test_default_observations_count_the_glimpses(red_corner: Task) -> None:
    env = GlanceFocusEnv(red_corner, EpisodeSpec())

    for patches in range(3):
        observation = _after(env, *[(0.0, 0.0)] * patches)
        assert observation["progress"].tolist() == [float(step == patches) for step in range(3)]
        assert observation["locations"].tolist() == [[0.5, 0.5]] * patches + [[0.0, 0.0]] * (2 - patches)


def test_the_glance_stays_visible_by_request(red_corner: Task) -> None:
    env = GlanceFocusEnv(red_corner, EpisodeSpec(observe=("features", "glance")))
    first = _after(env)

    later = _after(env, (1.0, 1.0))

    assert set(later) == {"features", "glance"}
    assert np.array_equal(first["features"], first["glance"])
    assert np.array_equal(later["glance"], first["glance"]) and not np.array_equal(later["features"], first["glance"])


def test_the_pooled_vector_of_the_last_look_is_observed_by_request(red_corner: Task) -> None:
    env = GlanceFocusEnv(red_corner, EpisodeSpec(observe=("pooled",)))
    _after(env)

    later = _after(env, (1.0, 1.0))

    pooled = red_corner.classifier.encode_at(env.dynamics.images, torch.ones(1, 2)).pooled
    assert env.observation_space.contains(later)
    assert np.allclose(later["pooled"], pooled[0], atol=1e-5)


def test_clips_are_cropped_in_every_frame(scenes: ArrayImages, clip_classifier: FrozenClassifier) -> None:
    """Their patches may have several sizes, too."""
    images = scenes.images[:8].view(2, 4, *scenes.images.shape[1:])
    clips = ArrayImages(images, torch.tensor([0, 1]), torch.zeros(2, 4, dtype=torch.int64), ("push", "pull", "lift"))
    networks = clip_classifier.with_spec(patch_sizes=(32, 48))
    env = GlanceFocusEnv(Task(clips, networks), EpisodeSpec(), render_mode="rgb_array")
    env.reset(seed=0, options={"index": 1, "patch_sizes": [32, 48]})
    hidden = networks.glance(images[1:]).hidden

    for side in (32, 48):
        observation, _, _, _, info = env.step(action(1, -1))
        expected = networks.focus(images[1:, ..., 96 - side :, :side], hidden)
        hidden = expected.hidden
        assert info["patch_size"] == side and info["top_left_px"].tolist() == [96 - side, 0]
        assert np.allclose(observation["features"], expected.features[0], atol=1e-5)
        assert info["prediction"] == expected.logits.argmax()

    frame = env.render()
    assert frame is not None and frame.shape[1] > 4 * frame.shape[0] > 0  # four frames side by side


# --- what must not change --------------------------------------------------------------------------------------------


def test_classifier_and_returned_observations_are_never_changed(
    classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    env = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(exit_confidence=0.2), num_envs=4)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    kept = {key: value.copy() for key, value in observation.items()}

    for _ in range(6):
        env.step(env.action_space.sample())

    assert all(np.array_equal(observation[key], kept[key]) for key in kept)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


@pytest.mark.parametrize("most_bytes", [1 << 29, 0])
def test_glances_are_cached(
    classifier: FrozenClassifier, scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    monkeypatch.setattr("gfnet_env.glance_cache._MOST_BYTES", most_bytes)
    cache = GlanceCache(classifier, len(scenes), num_rows=2)
    taken: list[int] = []
    glance = classifier.glance
    monkeypatch.setattr(classifier, "glance", lambda images: taken.append(len(images)) or glance(images))

    for indices in (torch.tensor([0, 1, 2]), torch.tensor([2, 3]), torch.tensor([3, 0, 0])):
        images = scenes.images[indices]
        for part, expected in zip(cache.glance(indices, scenes.images, indices), glance(images), strict=True):
            assert torch.allclose(part, expected, atol=1e-5)

    assert taken == ([1, 2, 2, 2] if most_bytes else [1, 3, 2, 3])  # one to learn the size, then always two together


def test_a_glance_does_not_depend_on_what_was_cached_before(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    one, other = (GlanceCache(classifier, len(scenes), num_rows=16) for _ in range(2))
    for some in ([7], [5, 1, 7]):
        one.glance(torch.tensor(some), scenes.images, torch.tensor(some))

    glances = (cache.glance(torch.arange(12), scenes.images, torch.arange(12)) for cache in (one, other))

    assert all(torch.equal(part, expected) for part, expected in zip(*glances, strict=True))
