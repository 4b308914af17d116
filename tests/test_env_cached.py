"""The cached ids: a look crops feature maps of whole images; everything else is as without Cached."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES

import agents
from agents.policies.baselines import RandomPolicy, ReferencePolicy
from classifiers.data.drawings import cache_folder
from classifiers.inference.cached import CachedClassifier, encode_whole
from gfnet_env import drawn_tasks
from gfnet_env.suite import CACHED, SuiteTask

SIGNS = "GFNet-SyntheticSigns-Cached-v0"
SMALL: dict[str, Any] = {"scenes": SMALL_SCENES, "num_scenes": 3}


def _classifier(env_id: str, **kwargs: Any) -> CachedClassifier:
    env: Any = gymnasium.make(env_id, **kwargs)
    found = env.unwrapped.task.classifier
    assert isinstance(found, CachedClassifier)
    return found


@pytest.mark.parametrize("task", CACHED.values(), ids=lambda task: task.env_id)
def test_spaces_images_and_costs_are_those_of_the_id_without_cached(task: SuiteTask) -> None:
    both: list[Any] = [gymnasium.make(name, num_scenes=2) for name in (task.env_id, task.env_id.replace("-Cached", ""))]

    (seen, info), (other, other_info) = (env.reset(seed=0) for env in both)

    assert both[0].observation_space == both[1].observation_space and both[0].action_space == both[1].action_space
    assert both[0].unwrapped.dynamics.spec == both[1].unwrapped.dynamics.spec
    assert info.keys() == other_info.keys() and np.array_equal(seen["features"], other["features"])  # of the glance
    for env in both:
        env.action_space.seed(0)
        _, _, _, _, after = env.step(env.action_space.sample())
        assert after["multiply_adds"] == both[0].unwrapped.dynamics.costs[:2, 0].sum()
        assert np.array_equal(after["top_left_px"], env.unwrapped.dynamics.trace.top_left_px[0, 1])


@pytest.mark.parametrize("env_id", [SIGNS, "GFNet-Search-Cached-v0"])
def test_a_look_is_a_crop_of_the_whole_maps(env_id: str) -> None:
    env: Any = gymnasium.make(env_id, num_scenes=2)
    task = env.unwrapped.task
    images, classifier = task.source.images, task.classifier
    with torch.inference_mode():
        maps = classifier.local_encoder.trunk(classifier.local_encoder.normalize(images))
    features, last = maps if isinstance(maps, tuple) else (maps, maps)
    side, fine = classifier.spec.patch_size // 8, features.shape[2] // last.shape[2]
    down, right = last.shape[2] - side, last.shape[3] - side

    for row, column in ((0, 0), (down, right), (5, 11)):
        place = torch.tensor([[(row + 0.4) / down, (column - 0.4) / right]]).clamp(0, 1)  # the nearest cell
        found = classifier.encode_at(images, place, torch.tensor([1]))
        wide = slice(fine * column, fine * (column + side))
        expected = features[1:, :, fine * row : fine * (row + side), wide]
        torch.testing.assert_close(found.features, expected, rtol=2e-3, atol=2e-3)  # float16
        pooled = last[1:, :, row + 1 : row + side - 1, column + 1 : column + side - 1].amax((2, 3))  # not at the border
        torch.testing.assert_close(found.pooled, pooled, rtol=2e-3, atol=2e-3)


def test_images_that_are_not_known_are_encoded_when_they_are_looked_at() -> None:
    env: Any = gymnasium.make(SIGNS, **SMALL)
    images, classifier = env.unwrapped.task.source.images, env.unwrapped.task.classifier
    places, which = torch.rand(2, 2), torch.tensor([2, 0])
    known = classifier.encode_at(images, places, which)

    for others, index in ((images.clone(), which), (images[which], None), (images[2:], torch.tensor([0, 0]))):
        found = classifier.encode_at(others, places, index)
        torch.testing.assert_close(found.pooled[0], known.pooled[0], rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(found.features[0], known.features[0], rtol=2e-3, atol=2e-3)


def test_maps_are_computed_once_and_again_if_they_are_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(drawn_tasks, "encode_whole", lambda *each: calls.append(1) or encode_whole(*each))
    kwargs: dict[str, Any] = {"scenes": SMALL_SCENES, "num_scenes": 4}
    places = torch.full((4, 2), 0.3)

    found = []
    for _ in range(2):
        env: Any = gymnasium.make(SIGNS, **kwargs)
        found.append(env.unwrapped.task.classifier.encode_at(env.unwrapped.task.source.images, places).pooled)
        del env
    (path,) = cache_folder(SMALL_SCENES).glob("maps-*-train-4.safetensors")
    path.write_bytes(b"damaged")
    again = _classifier(SIGNS, **kwargs)

    assert len(calls) == 2 and torch.equal(*found)
    assert path.stat().st_size > 1000 and again.spec.num_glimpses == 4


@pytest.mark.parametrize(
    "given", [{"patch_sizes": (32, 48)}, {"patch_scales": (1, 2)}, {"patch_size": 32}, {"feature_stride": 4}]
)
def test_what_the_maps_do_not_fit_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(given))}.* with feature maps that are cached for patches of 48"):
        gymnasium.make(SIGNS, glance_size=48, **SMALL, **given)
    assert _classifier(SIGNS, num_glimpses=3, **SMALL).spec.num_glimpses == 3


def test_a_classifier_of_ones_own_is_refused() -> None:
    with pytest.raises(ValueError, match="a cached id has a classifier of its own; leave classifier out"):
        gymnasium.make(SIGNS, classifier="runs/mine", **SMALL)
    with pytest.raises(ValueError, match="scenes is a SceneSpec; pass a SearchSpec"):
        gymnasium.make("GFNet-Search-Cached-v0", scenes=SMALL_SCENES)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CACHED if name != "synthetic_signs"])
def test_its_own_head_reads_the_boards(name: str) -> None:
    task = CACHED[name]
    made = task.make_task(split="test", num_scenes=150)
    reference = ReferencePolicy(made.source.image_size, made.classifier.spec.patch_sizes)

    by_step = agents.accuracy_by_step(agents.evaluate(made.classifier, made.source, reference))
    at_random = agents.accuracy_by_step(agents.evaluate(made.classifier, made.source, RandomPolicy(0)))

    assert task.scale is not None
    assert by_step[-1] == pytest.approx(task.scale.reference, abs=0.12)
    assert at_random[-1] == pytest.approx(task.scale.random, abs=0.12)
