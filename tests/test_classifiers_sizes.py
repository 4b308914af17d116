"""A glance and patches of two sizes."""

from __future__ import annotations

import pytest
import torch
from conftest import random_classifier
from torch.nn import functional

from agents.runs.config_files import load_config
from agents.runs.cost import run_cost
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.geometry import resize
from classifiers.networks.spec import ClassifierSpec
from scripts.report import cost_table


def _spec(**shape: object) -> ClassifierSpec:
    return ClassifierSpec(**{"encoder": "small_resnet", "patch_size": 48, "num_glimpses": 3, "hidden_size": 8, **shape})  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize(("glance_size", "side"), [(32, 6), (64, 8)])
def test_feature_maps_are_of_the_larger_inputs_size(glance_size: int, side: int) -> None:
    classifier = random_classifier(_spec(glance_size=glance_size)).eval()
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8)

    with torch.no_grad():
        glance = classifier.glance(images)
        focus = classifier.focus(images[:, :, :48, :48], glance.hidden)
        small = classifier.normalize(resize(images, (glance_size, glance_size), "bicubic"))
        own = (classifier.global_encoder(small), classifier.local_encoder(classifier.normalize(images[:, :, :48, :48])))

    assert classifier.feature_shape() == (96, side, side)
    for glimpse, encoding in zip((glance, focus), own, strict=True):
        expected = functional.interpolate(encoding.features, (side, side), mode="bilinear", align_corners=True)
        assert torch.allclose(glimpse.features, expected, atol=1e-6)
        assert torch.equal(glimpse.pooled, encoding.pooled)  # of its own size: nothing is seen that is not there


def test_cost_command_tells_the_glance_apart() -> None:
    config = load_config("synthetic_signs", ["classifier.glance_size=64", "data.scenes.height=96"])
    cost = run_cost(config, 10)

    assert cost.glance_encoder == pytest.approx(cost.encoder * (64 / 48) ** 2, rel=0.01)
    assert len(set(cost.head)) == 1
    assert cost.per_step[0] == cost.glance_encoder + cost.head[0]
    cells = [list(column.cells) for column in cost_table(cost).columns]
    assert cells[1][:2] == [f"{cost.glance_encoder:,}", f"{cost.encoder:,}"]


def test_twins_for_other_sizes_share_their_weights(classifier: FrozenClassifier) -> None:
    twin = classifier.with_spec(patch_size=32, glance_size=64)

    assert (twin.spec.patch_size, twin.spec.glance_side) == (32, 64)
    assert (classifier.spec.patch_size, classifier.spec.glance_side) == (48, 48)
    assert (twin.feature_shape(), classifier.feature_shape()) == ((96, 8, 8), (96, 6, 6))
    for one, other in zip(twin.parameters(), classifier.parameters(), strict=True):
        assert one.data_ptr() == other.data_ptr()
    assert isinstance(twin, FrozenClassifier)
    assert classifier.with_spec(patch_size=48) is classifier
    assert classifier.with_spec(patch_size=64).spec.glance_side == 64  # the glance goes with the patches ...
    assert twin.with_spec(patch_size=48).spec.glance_side == 64  # ... unless it has a size of its own
