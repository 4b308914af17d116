"""The MDP: rewards in closed form, and what must not change."""

from __future__ import annotations

import math
from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
import torch
from red_corner import GREY, MEAN, RED, red_probability

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task
from gfnet_env.glance_cache import GlanceCache
from gfnet_env.rewards import contrastive_reward, increment_reward

MakeClassifier = Callable[..., FrozenClassifier]


def test_rewards_are_equations_4_and_8() -> None:
    probability, before = torch.tensor([0.9, 0.2]), torch.tensor([0.5, 0.4])

    assert increment_reward(probability, before).tolist() == pytest.approx([0.4, -0.2])
    random = torch.tensor([[0.3, 0.1], [0.5, 0.5]])
    assert contrastive_reward(probability, random).tolist() == pytest.approx([0.5, -0.1])


def _logit(value: float, channel: int) -> float:
    mean, std = ((0.485, 0.229), (0.456, 0.224))[channel]
    return (value / 255.0 - mean) / std


def _red_probability(*looks: tuple[float, float]) -> float:
    """Class 0's probability after looks at patches of these mean (red, green) pixels, logits averaged."""
    red = sum(_logit(look[0], 0) for look in looks) / len(looks)
    green = sum(_logit(look[1], 1) for look in looks) / len(looks)
    return 1.0 / (1.0 + math.exp(green - red))


def test_rewards_in_closed_form(colour_classifier: MakeClassifier, red_corner_images: ArrayImages) -> None:
    grey, red = (120.0, 120.0), (255.0, 0.0)
    mean = (120 + 135 / 16, 120 - 120 / 16)  # of the whole image
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier()), EpisodeSpec(reward="increment"))

    _, info = env.reset(seed=0)
    assert info["label_probability"] == pytest.approx(_red_probability(mean), abs=1e-5)
    _, reward, terminated, truncated, info = env.step(np.array([1.0, 1.0], np.float32))
    assert reward == pytest.approx(_red_probability(mean, red) - _red_probability(mean), abs=1e-5)
    assert (terminated, truncated) == (False, False)
    assert info["top_left_px"].tolist() == [24, 24]
    _, reward, terminated, truncated, _ = env.step(np.array([-1.0, -1.0], np.float32))
    assert reward == pytest.approx(_red_probability(mean, red, grey) - _red_probability(mean, red), abs=1e-5)
    assert (terminated, truncated) == (True, False)


def test_contrastive_reward_compares_with_random_places(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    """With many samples the mean over random places nears the mean over all places, which can be counted."""
    mean = (120 + 135 / 16, 120 - 120 / 16)
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier()), EpisodeSpec(reward_samples=4000))
    env.reset(seed=0)

    _, reward, *_ = env.step(np.array([1.0, 1.0], np.float32))

    by_overlap = []
    for row in range(24):  # floor(l * 24) of a uniform l: 0 to 23
        for column in range(24):
            share = max(0, row - 16) * max(0, column - 16) / 64
            by_overlap.append(_red_probability(mean, (120 + 135 * share, 120 - 120 * share)))
    expected = _red_probability(mean, (255.0, 0.0)) - float(np.mean(by_overlap))
    assert reward == pytest.approx(expected, abs=0.01)


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


def test_every_look_has_its_price(colour_classifier: MakeClassifier, red_corner_images: ArrayImages) -> None:
    episode = EpisodeSpec(reward="increment", step_cost=0.25)
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier()), episode)
    env.reset(seed=0)

    first = env.step(np.ones(2, np.float32))[1]
    second = env.step(-np.ones(2, np.float32))[1]

    assert first == pytest.approx(red_probability(MEAN, RED) - red_probability(MEAN) - 0.25, abs=1e-5)
    assert second == pytest.approx(red_probability(MEAN, RED, GREY) - red_probability(MEAN, RED) - 0.25, abs=1e-5)


@pytest.mark.parametrize("reward", ["increment", "contrastive"])
def test_the_price_is_all_that_step_cost_changes(
    classifier: FrozenClassifier, scenes: ArrayImages, reward: str
) -> None:
    free, priced = (
        GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(reward=reward, step_cost=cost), num_envs=4)
        for cost in (0.0, 0.1)
    )
    free.action_space.seed(0)
    free.reset(seed=0)
    priced.reset(seed=0)

    for step in range(8):
        actions = free.action_space.sample()
        (one, gain, over, *_), (other, net, also_over, *_) = free.step(actions), priced.step(actions)
        is_reset = step % 4 == 3  # of three focus steps, then one that begins anew and costs nothing
        assert np.allclose(gain - net, 0.0 if is_reset else 0.1, atol=1e-12)
        assert np.array_equal(over, also_over)
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_the_classifier_is_never_changed(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    env = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=4)
    env.reset(seed=0)

    for _ in range(6):
        env.step(env.action_space.sample())

    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_observations_handed_out_stay_as_they_were(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(exit_confidence=0.2), num_envs=4)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    kept = {key: value.copy() for key, value in observation.items()}

    for _ in range(8):
        env.step(env.action_space.sample())

    assert all(np.array_equal(observation[key], kept[key]) for key in kept)


def test_confident_episodes_end_early(colour_classifier: MakeClassifier, red_corner_images: ArrayImages) -> None:
    episode = EpisodeSpec(exit_confidence=0.75)
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier(num_glimpses=4)), episode)
    env.reset(seed=0)

    assert not env.step(np.array([-1.0, -1.0], np.float32))[2]
    _, _, terminated, truncated, info = env.step(np.array([1.0, 1.0], np.float32))

    assert info["confidence"] > 0.75
    assert terminated and not truncated


def test_multiply_adds_add_up(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec())
    costs = env.dynamics.costs
    _, info = env.reset(seed=0)
    assert info["multiply_adds"] == costs[0]

    env.step(np.zeros(2, np.float32))
    *_, info = env.step(np.zeros(2, np.float32))

    assert info["multiply_adds"] == costs[:3].sum()
    assert costs[0] > 6_000_000


def test_rescaled_actions_are_the_papers_locations(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env = gymnasium.wrappers.RescaleAction(
        GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec()), np.float32(0.0), np.float32(1.0)
    )
    env.reset(seed=0)

    *_, info = env.step(np.array([0.5, 1.0], np.float32))

    assert info["top_left_px"].tolist() == [24, 80]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": "increments"}, "reward='increments' is unknown; pass one of contrastive, increment"),
        ({"reward_samples": 0}, "reward_samples=0"),
        ({"exit_confidence": 0.0}, "exit_confidence=0.0; pass a probability"),
    ],
)
def test_bad_rules_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpisodeSpec(**arguments)  # type: ignore[arg-type]


def test_parts_that_do_not_fit_are_refused(
    classifier: FrozenClassifier, scenes: ArrayImages, colour_classifier: MakeClassifier
) -> None:
    with pytest.raises(ValueError, match="the classifier knows 2 classes, the data set has 10"):
        GlanceFocusEnv(Task(scenes, colour_classifier()), EpisodeSpec())
    small = ArrayImages(scenes.images[..., :40, :40], scenes.labels, scenes.boxes, scenes.class_names)
    with pytest.raises(ValueError, match="patch_size=48 exceeds the 40x40 image"):
        GlanceFocusEnv(Task(small, classifier), EpisodeSpec())
    empty = ArrayImages(scenes.images[:0], scenes.labels[:0], scenes.boxes[:0], scenes.class_names)
    with pytest.raises(ValueError, match="holds no image"):
        GlanceFocusEnv(Task(empty, classifier), EpisodeSpec())


@pytest.mark.parametrize("most_bytes", [1 << 29, 0])
def test_glances_are_remembered(
    classifier: FrozenClassifier, scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    monkeypatch.setattr("gfnet_env.glance_cache._MOST_BYTES", most_bytes)
    memory = GlanceCache(classifier, len(scenes), num_rows=2)
    taken: list[int] = []
    glance = classifier.glance
    monkeypatch.setattr(classifier, "glance", lambda images: taken.append(len(images)) or glance(images))

    for indices in (torch.tensor([0, 1, 2]), torch.tensor([2, 3]), torch.tensor([3, 0, 0])):
        images = scenes.images[indices]
        for part, expected in zip(memory.glance(indices, images), glance(images), strict=True):
            assert torch.allclose(part, expected, atol=1e-5)

    assert taken == ([1, 2, 2, 2] if most_bytes else [1, 3, 2, 3])  # one to learn the size, then always two together


def test_a_glance_does_not_depend_on_what_was_remembered_before(
    classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    one, other = (GlanceCache(classifier, len(scenes), num_rows=16) for _ in range(2))
    everything = torch.arange(12)
    one.glance(torch.tensor([7]), scenes.images[[7]])
    one.glance(torch.tensor([5, 1, 7]), scenes.images[[5, 1, 7]])

    for part, expected in zip(
        one.glance(everything, scenes.images[:12]), other.glance(everything, scenes.images[:12]), strict=True
    ):
        assert torch.equal(part, expected)
