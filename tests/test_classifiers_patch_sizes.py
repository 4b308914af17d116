"""Patches of several sizes: the classifier and its training (Section 4.2)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import random_classifier
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from agents.policies.extractor import PROPOSAL_NETWORKS, GlimpseExtractor
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import frozen
from classifiers.networks.costs import encoder_cost, glimpse_costs
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import View
from classifiers.networks.spec import ClassifierSpec
from classifiers.training.stages import random_policy
from gfnet_env.observation import observation_space

SIZES = (24, 32, 48)


def _spec(**shape: Any) -> ClassifierSpec:
    given = {"patch_sizes": SIZES, "glance_size": 32, "num_glimpses": 3, "hidden_size": 8, **shape}
    return ClassifierSpec(encoder="small_resnet", **given)


def test_one_size_may_be_written_either_way() -> None:
    one, other = (
        ClassifierSpec(encoder="small_resnet", **size) for size in ({"patch_size": 48}, {"patch_sizes": [48]})
    )

    assert one == other and (one.patch_size, one.patch_sizes) == (48, (48,))
    assert ClassifierSpec(encoder="small_resnet").patch_sizes == (96,)
    several = _spec()
    assert (several.patch_size, several.largest_side) == (48, 48)  # the largest, which maps and images must fit


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"patch_sizes": (48, 32)}, "patch_sizes"),
        ({"patch_sizes": (32, 32)}, "patch_sizes"),
        ({"patch_sizes": ()}, "patch_sizes"),
        ({"patch_sizes": (32, 48.5)}, "patch_sizes"),
        ({"patch_sizes": (4, 32)}, "patch_sizes"),
        ({"patch_size": 32}, "patch_size=32"),
        ({"glance_size": None}, "glance_size"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(shape: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _spec(**shape)


def test_twins_get_several_sizes_and_keep_their_glance() -> None:
    classifier = frozen(random_classifier(ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=3)))

    twin = classifier.with_spec(patch_sizes=(32, 48, 64))

    assert (twin.spec.patch_sizes, twin.spec.patch_size, twin.spec.glance_side) == ((32, 48, 64), 64, 48)
    assert twin.feature_shape() == (96, 8, 8)  # of the largest
    assert twin.with_spec(patch_size=32).spec.patch_sizes == (32,)
    assert twin.with_spec(num_glimpses=2).spec.patch_sizes == (32, 48, 64)
    with pytest.raises(ValueError, match="patch_size=32"):
        twin.with_spec(patch_size=32, patch_sizes=(32, 48))


def test_each_row_sees_a_patch_of_its_size() -> None:
    """Rows of several sizes in one call give what each gives alone, with gradients."""
    classifier = random_classifier(_spec())
    images = torch.randint(0, 256, (3, 3, 96, 128), dtype=torch.uint8)
    which, size = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([2, 0, 1, 0, 2])
    location, hidden = torch.rand(5, 2), torch.rand(5, 8)

    together = classifier.look(images, location, hidden, which, size)

    for row in range(5):
        one = slice(row, row + 1)
        alone = classifier.look(images, location[one], hidden[one], which[one], int(size[row]))
        assert classifier.patches(images, location[one], which[one], int(size[row])).shape[2] == SIZES[size[row]]
        for found, expected in zip(together, alone, strict=True):
            assert torch.allclose(found[one], expected, atol=1e-5)
    together.logits.sum().backward()
    assert all(weight.grad is not None for weight in classifier.local_encoder.trunk.parameters())


def test_costs_by_size() -> None:
    classifier = GlanceFocusClassifier(_spec(), 10)
    glance = encoder_cost(classifier.global_encoder, (32, 32), with_classifier=False)
    head = glimpse_costs(classifier)[0] - glance

    for size, side in enumerate(SIZES):
        focus = encoder_cost(classifier.local_encoder, (side, side), with_classifier=False) + head
        assert glimpse_costs(classifier, size) == (glance + head, focus, focus)
    assert glimpse_costs(classifier) == glimpse_costs(classifier, 2)


class _Watching:
    """Random places, and a note of what a policy is shown."""

    def __init__(self, seed: int = 0) -> None:
        self.seen: list[tuple[list[float], list[float]]] = []
        self._place = random_policy(torch.Generator().manual_seed(seed))

    def __call__(self, view: View, state: Any) -> tuple[Tensor, Any]:
        assert view.last_size is not None and view.next_size is not None
        self.seen.append((view.last_size[0].tolist(), view.next_size[0].tolist()))
        return self._place(view, state)


def test_sizes_of_a_training_are_drawn_at_random_and_shown_to_the_policy(scenes: ArrayImages) -> None:
    classifier, watching = random_classifier(_spec(num_glimpses=4)), _Watching()
    generator = torch.Generator().manual_seed(0)

    for _ in range(20):
        classifier(scenes.images[:2], watching, generator)

    firsts, seconds, thirds = (watching.seen[step::3] for step in range(3))
    assert {tuple(last) for last, _ in firsts} == {(0.0, 0.0, 0.0)}  # the glance has none of the sizes
    assert [last for last, _ in seconds] == [following for _, following in firsts]
    assert [last for last, _ in thirds] == [following for _, following in seconds]
    for each in (firsts, seconds, thirds):
        assert {following.index(1.0) for _, following in each} == {0, 1, 2}


def test_resizing_before_pi_is_the_papers_resizing_after_its_convolution() -> None:
    """Bilinear resizing and a 1x1 convolution without bias commute, so the environment may resize first (4.2)."""
    classifier = frozen(GlanceFocusClassifier(_spec(), 10))
    space = observation_space(classifier, ("features", "last_size", "next_size"))
    assert isinstance(space, spaces.Dict)
    pi = GlimpseExtractor(space, **PROPOSAL_NETWORKS["conv1x1_32"])
    convolution = pi.reduce[0]  # type: ignore[index]  # convolution, then ReLU
    small = torch.randn(4, 96, 3, 3)

    first, after = (
        functional.interpolate(maps, (6, 6), mode="bilinear", align_corners=True)
        for maps in (small, convolution(small))
    )

    assert torch.allclose(convolution(first), after, atol=1e-5)
    assert convolution.bias is None and pi.vectors == ["last_size", "next_size"]
