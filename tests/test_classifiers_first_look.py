"""Table 5's rows without a glance: what the first look sees, and where the policies look next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import random_classifier

from agents import CenterCornerPolicy, RandomPolicy, Recognizer, evaluate
from agents.policies.baselines import CENTER_CORNERS
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.geometry import crop_at
from classifiers.networks.spec import ClassifierSpec
from classifiers.training.fit_spec import FitSpec
from classifiers.training.stages import random_policy, train_sequences
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task
from gfnet_env.rendering import RIGHT, WRONG


def _classifier(first_look: str, **shape: Any) -> FrozenClassifier:
    size: dict[str, Any] = {"patch_size": 48, "num_glimpses": 5, "hidden_size": 8, **shape}
    return frozen(random_classifier(ClassifierSpec(encoder="small_resnet", first_look=first_look, **size)))


def test_the_center_is_looked_at_once(scenes: ArrayImages) -> None:
    record = evaluate(_classifier("center"), scenes, CenterCornerPolicy())
    with_glance = evaluate(_classifier("glance"), scenes, CenterCornerPolicy())

    assert np.array_equal(record.location, np.broadcast_to(CENTER_CORNERS[1:], record.location.shape))
    assert np.array_equal(with_glance.location, np.broadcast_to(CENTER_CORNERS[:4], with_glance.location.shape))


def test_random_first_looks_differ_between_images_and_repeat_with_the_seed(scenes: ArrayImages) -> None:
    classifier = _classifier("random")
    seen: list[torch.Tensor] = []

    def policy(view: Any, state: None) -> tuple[torch.Tensor, None]:
        seen.append(view.first_location)
        return torch.zeros(len(view.step), 2), None

    for seed in (3, 3, 4):
        first, *_ = [
            glimpse
            for glimpse, _ in classifier.episode(scenes.images, policy, generator=torch.Generator().manual_seed(seed))
        ]
        expected = classifier.glance(scenes.images, seen[-1])
        assert torch.allclose(first.logits, expected.logits, atol=1e-5)

    one, again, other = seen[0], seen[4], seen[8]
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.min() >= 0 and one.max() <= 1 and len(one.unique(dim=0)) == len(scenes)


def test_evaluations_repeat_their_random_first_looks(scenes: ArrayImages) -> None:
    classifier = _classifier("random")

    one, two = (evaluate(classifier, scenes, RandomPolicy(1), batch_size=7) for _ in range(2))

    assert np.array_equal(one.prediction, two.prediction) and np.array_equal(one.confidence, two.confidence)


@pytest.mark.parametrize("first_look", ["center", "random"])
def test_recognition_knows_where_the_first_look_was(scenes: ArrayImages, first_look: str) -> None:
    recognizer = Recognizer(_classifier(first_look), CenterCornerPolicy(), class_names=scenes.class_names, batch_size=5)

    one, two = recognizer.predict(scenes.images), recognizer.predict(scenes.images)

    places = CENTER_CORNERS[1:] if first_look == "center" else CENTER_CORNERS[:4]
    assert np.array_equal(one.locations, np.broadcast_to(places, one.locations.shape))
    assert np.array_equal(one.confidence, two.confidence)


def test_the_first_patch_has_the_glances_size(scenes: ArrayImages) -> None:
    classifier = _classifier("random", glance_size=32)
    location = torch.tensor([[0.0, 1.0], [0.3, 0.6]])

    patch = classifier.first_input(scenes.images[:2], location)

    assert torch.equal(patch, crop_at(scenes.images[:2], location, 32).float())


def test_stage_one_draws_first_looks_from_the_epochs_generator(scenes: ArrayImages) -> None:
    spec = ClassifierSpec(encoder="small_resnet", first_look="random", patch_size=48, num_glimpses=2, hidden_size=8)
    fit = FitSpec(epochs=1, batch_size=12, optimizer="adamw", lr=1e-3)
    trained = [train_sequences(random_classifier(spec), None, scenes, fit, seed=seed) for seed in (0, 0, 1)]

    one, two, other = ([parameter.detach() for parameter in network.parameters()] for network in trained)

    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    logits = [
        trained[0](scenes.images, random_policy(torch.Generator()), torch.Generator().manual_seed(s)).logits[0]
        for s in (0, 1)
    ]
    assert not torch.allclose(*logits)


@pytest.mark.parametrize("first_look", ["center", "random"])
def test_the_environment_shows_where_it_looked_first(scenes: ArrayImages, first_look: str) -> None:
    task = Task(scenes, _classifier(first_look, num_glimpses=3))
    rows = GlanceFocusVectorEnv(task, EpisodeSpec(), num_envs=3, autoreset_mode="SAME_STEP")
    _, together = rows.reset(seed=8)
    alone = GlanceFocusEnv(task, EpisodeSpec(), render_mode="rgb_array")

    for row in range(3):
        observation, info = alone.reset(seed=8 + row)
        location = torch.from_numpy(info["location"])[None]
        assert np.array_equal(together["location"][row], info["location"])
        image = scenes.images[info["index"]][None]
        assert np.allclose(observation["features"], task.classifier.glance(image, location).features[0], atol=1e-4)
        assert (info["location"] == 0.5).all() == (first_look == "center")
        assert (observation["locations"] == 0).all()
        seen = alone.dynamics.view().first_location
        assert seen is not None and np.array_equal(seen[0].numpy(), info["location"])
        frame = alone.render()
        color = RIGHT if info["prediction"] == info["label"] else WRONG
        assert frame is not None and (frame == np.array(color)).all(axis=2).sum() > 400  # a box in the image, too
