"""What observations can tell apart, and what they can't."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, Task

MakeClassifier = Callable[..., FrozenClassifier]


def _after(env: GlanceFocusEnv, *actions: tuple[float, float]) -> dict[str, np.ndarray]:
    observation, _ = env.reset(options={"index": 0})
    for action in actions:
        observation, *_ = env.step(np.array(action, np.float32))
    return observation


def test_default_observations_tell_looks_at_a_flat_background_apart(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier()), EpisodeSpec())

    left, right = _after(env, (-1.0, -1.0)), _after(env, (-1.0, 0.5))

    assert np.array_equal(left["features"], right["features"]) and np.array_equal(left["hidden"], right["hidden"])
    assert not np.array_equal(left["locations"], right["locations"])


def test_default_observations_count_the_looks(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier(num_glimpses=4)), EpisodeSpec())

    for looks in range(4):
        observation = _after(env, *[(0.0, 0.0)] * looks)
        assert observation["progress"].tolist() == [float(step == looks) for step in range(4)]
        assert observation["locations"].tolist() == [[0.5, 0.5]] * looks + [[0.0, 0.0]] * (3 - looks)


def test_the_glance_stays_in_sight_by_request(
    colour_classifier: MakeClassifier, red_corner_images: ArrayImages
) -> None:
    rules = EpisodeSpec(observe=("features", "glance"))
    env = GlanceFocusEnv(Task(red_corner_images, colour_classifier()), rules)
    first = _after(env)

    later = _after(env, (1.0, 1.0))

    assert np.array_equal(first["features"], first["glance"])
    assert np.array_equal(later["glance"], first["glance"]) and not np.array_equal(later["features"], first["glance"])
