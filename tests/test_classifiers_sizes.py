"""A glance and patches of two sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import random_classifier
from torch.nn import functional

from agents.runs.config_files import load_config
from agents.runs.cost import run_cost
from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import encoder_cost, glimpse_costs
from classifiers.networks.geometry import resize
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import ClassifierSpec
from classifiers.training.fit_spec import FitSpec
from classifiers.training.stages import random_policy, train_sequences
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


def test_costs_follow_the_sizes() -> None:
    same, other = _spec(), _spec(glance_size=96, patch_size=32)
    classifier = GlanceFocusClassifier(other, 10)
    head = glimpse_costs(GlanceFocusClassifier(same, 10))[1] - encoder_cost(
        classifier.local_encoder, (48, 48), with_classifier=False
    )

    costs = glimpse_costs(classifier)

    for cost, side in zip(costs, (96, 32, 32), strict=True):
        assert cost == encoder_cost(classifier.local_encoder, (side, side), with_classifier=False) + head


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


def test_stage_one_trains_at_two_sizes(scenes: ArrayImages) -> None:
    torch.manual_seed(0)
    classifier = GlanceFocusClassifier(_spec(glance_size=32, patch_size=40), 10)
    before = [parameter.clone() for parameter in classifier.parameters()]

    train_sequences(classifier, None, scenes, FitSpec(epochs=1, batch_size=8, optimizer="adamw", lr=1e-3), seed=0)

    assert not all(torch.equal(one, other) for one, other in zip(before, classifier.parameters(), strict=True))
    sequence = classifier(scenes.images[:2], random_policy(torch.Generator().manual_seed(0)))
    assert sequence.logits.shape == (3, 2, 10)


def test_the_size_of_the_glance_survives_the_disk(tmp_path: Path) -> None:
    classifier = random_classifier(_spec(glance_size=64), 3)

    save_classifier(tmp_path / "new.safetensors", classifier, ("a", "b", "c"))

    assert load_classifier(tmp_path / "new.safetensors")[0].spec == classifier.spec


def test_too_small_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="glance_size"):
        _spec(glance_size=4)
    with pytest.raises(ValueError, match="patch_size"):
        random_classifier(_spec()).with_spec(patch_size=7)
