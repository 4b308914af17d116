"""Any network becomes an encoder: the paper's, and those that nobody prepared; with finer maps, if asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pinned
import pytest
import torch
import torchvision
from conftest import random_classifier
from torch import nn

from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import frozen
from classifiers.networks.costs import encoder_cost
from classifiers.networks.encoders import ENCODERS, Encoder, build_encoder
from classifiers.networks.folding import fold_batch_norms, folded_statistics
from classifiers.networks.spec import ClassifierSpec
from classifiers.networks.tracing import split_network
from gfnet_env import EpisodeSpec, GlanceFocusEnv, Task

SHAPES = {
    "densenet121": ((1024, 2, 3), 1024),
    "mobilenetv3_large_100": ((960, 2, 4), 1280),
    "torchvision:swin_t": ((768, 2, 3), 768),  # maps are channels-last inside
}


def test_every_named_encoder_is_tried() -> None:
    assert set(ENCODERS) <= set(pinned.ENCODERS)


@pytest.mark.parametrize("name", SHAPES)
def test_maps_and_vectors_are_found_at_any_size(name: str) -> None:
    encoder = build_encoder(name, 7).eval()

    with torch.no_grad():
        encoding = encoder(torch.rand(1, 3, 64, 97))

    assert (encoding.features.shape[1:], encoding.pooled.shape[1]) == SHAPES[name]
    assert encoder.classifier(encoding.pooled).shape == (1, 7)


@pytest.mark.parametrize("name", ["regnety_600m", "mobilenetv3_large_100"])
def test_batch_normalizations_are_folded_into_convolutions(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, 4).eval()
    images = torch.randn(2, 3, 64, 64)

    with torch.no_grad():
        expected = encoder.trunk(images)
        folded = fold_batch_norms(encoder.trunk)(images)

    assert torch.allclose(folded, expected, atol=1e-4 * float(expected.abs().max()))


def test_a_trunk_that_normalizes_within_its_convolutions_has_the_same_gradients() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("mobilenetv3_large_100", 4).eval()
    for norm in encoder.modules():
        if isinstance(norm, torch.nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    images, names = torch.randn(2, 3, 64, 64), list(encoder.state_dict())

    def gradients() -> list[torch.Tensor]:
        encoder.zero_grad()
        encoder.trunk(images).square().mean().backward()
        return [each.grad.clone() for each in encoder.trunk.parameters() if each.grad is not None]

    expected = gradients()
    with folded_statistics(encoder):
        calls: list[int] = []
        hooks = [
            each.register_forward_hook(lambda *_: calls.append(1))
            for each in encoder.trunk.modules()
            if isinstance(each, torch.nn.BatchNorm2d)
        ]
        found = gradients()
        assert list(encoder.state_dict()) == names
    assert not calls
    encoder.trunk(images)
    assert len(calls) == len(hooks)  # as before

    assert len(found) == len(expected) == len(list(encoder.trunk.parameters()))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()) + 1e-7)


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_a_normalization_without_weights_or_statistics_is_trained_as_it_is(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4, **options)
    trunk = torch.fx.symbolic_trace(torch.nn.Sequential(*layers).eval())
    encoder, images = Encoder(trunk, torch.nn.Identity(), torch.nn.Linear(4, 2)), torch.randn(2, 3, 8, 8)

    with folded_statistics(encoder):
        found = encoder.trunk(images)

    assert torch.allclose(found, encoder.trunk(images), atol=1e-5)


def test_split_network_computes_what_the_whole_one_does() -> None:
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v3_small().eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = network(images)

        trunk, pool, classifier = split_network(network, "mobilenet_v3_small")

        assert torch.equal(classifier(pool(trunk(images))), expected)


def test_layers_still_know_training_from_evaluation() -> None:
    encoder = build_encoder("torchvision:efficientnet_b0", 4).train()  # stochastic depth and dropout
    images = torch.randn(2, 3, 64, 64)

    with torch.no_grad():
        assert not torch.equal(encoder(images).features, encoder(images).features)
        encoder.eval()
        assert torch.equal(encoder(images).features, encoder(images).features)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("torchvision:squeezenet1_0", "squeezenet1_0 does not end in a linear layer"),
        ("timm:convnext_tini", "did you mean 'timm:convnext_tiny'"),
        ("torchvision:resnet51", "did you mean 'torchvision:resnet"),
        ("resnet_50", "did you mean 'resnet50'"),
        ("tsm0:resnet18", "encoder='tsm0:resnet18'"),
    ],
)
def test_what_can_not_be_an_encoder_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build_encoder(name, 10)


def test_a_network_without_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="flat has no feature map"):
        split_network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 96 * 96, 4)), "flat")


def test_costs_of_table_1() -> None:
    cost = encoder_cost(build_encoder("densenet121", 1000), (224, 224), with_classifier=True)

    assert cost == pytest.approx(2.85e9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "stride", "channels"),
    [
        ("timm:tf_efficientnet_lite0", 16, 112),  # before the expansion of the block that halves the maps
        ("timm:tf_efficientnet_lite0", 8, 40),
        ("resnet18", 4, 64),
        ("small_resnet", 8, 64),
        ("tsm8:resnet18", 16, 256),
    ],
)
def test_maps_of_an_earlier_layer_come_beside_the_same_vectors(name: str, stride: int, channels: int) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, 10).eval()
    names = list(encoder.state_dict())
    images = torch.randn(2, *(() if encoder.num_frames is None else (encoder.num_frames,)), 3, 64, 96)
    with torch.no_grad():
        before = encoder(images)
        encoder.use_feature_stride(stride, name)
        after = encoder(images)

    assert after.features.shape[1:] == (channels, 64 // stride, 96 // stride)
    assert torch.equal(after.pooled, before.pooled)
    assert list(encoder.state_dict()) == names, "weights no longer load"


def _finer(**changes: Any) -> ClassifierSpec:
    settings = {"encoder": "small_resnet", "patch_size": 48, "feature_stride": 4, "num_glimpses": 3, "hidden_size": 16}
    return ClassifierSpec(**{**settings, **changes})


def test_strides_that_a_network_lacks_are_named() -> None:
    with pytest.raises(ValueError, match="feature_stride=16, but small_resnet"):
        random_classifier(_finer(feature_stride=16))
    with pytest.raises(ValueError, match="feature_stride"):
        _finer(feature_stride=5)


def test_a_classifier_with_finer_maps_is_frozen_saved_and_observed(scenes: ArrayImages, tmp_path: Path) -> None:
    classifier, coarse = random_classifier(_finer(glance_size=64)), random_classifier(_finer(feature_stride=None))
    save_classifier(tmp_path / "classifier.safetensors", classifier, scenes.class_names)
    loaded, _ = load_classifier(tmp_path / "classifier.safetensors")
    fast = frozen(classifier)

    assert classifier.feature_shape() == (32, 16, 16) and coarse.feature_shape() == (96, 6, 6)
    with torch.inference_mode():
        glimpse, same, folded = (one.glance(scenes.images[:4]) for one in (classifier, loaded, fast))
    assert torch.allclose(glimpse.features, same.features)
    assert torch.allclose(glimpse.features, folded.features, atol=1e-4)

    env = GlanceFocusEnv(Task(scenes, fast), EpisodeSpec())
    observation, _ = env.reset(seed=0)
    assert observation["features"].shape == (32, 16, 16)
    assert env.step(env.action_space.sample())[0]["features"].shape == (32, 16, 16)


@pytest.mark.parametrize("shares_encoder", [False, True])
def test_trained_networks_can_give_finer_maps(shares_encoder: bool, scenes: ArrayImages) -> None:
    classifier = random_classifier(_finer(feature_stride=None, shares_encoder=shares_encoder))
    twin = classifier.with_spec(feature_stride=4)

    assert classifier.feature_shape() == (96, 6, 6) and twin.feature_shape() == (32, 12, 12)
    assert all(a is b for a, b in zip(classifier.parameters(), twin.parameters(), strict=True)), "weights were copied"
    assert (twin.global_encoder is twin.local_encoder) == shares_encoder
    before, after = (networks.glance(scenes.images[:4]) for networks in (classifier, twin))
    assert torch.equal(before.logits, after.logits) and before.features.shape[1:] == (96, 6, 6)
    fast = frozen(classifier).with_spec(feature_stride=4).glance(scenes.images[:4])
    assert torch.allclose(after.features, fast.features, atol=1e-4)
    with pytest.raises(ValueError, match="feature_stride=8"):
        twin.with_spec(feature_stride=8)
