"""Finer feature maps for the policy: `feature_stride`."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import pytest
import torch
from conftest import random_classifier

from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import frozen
from classifiers.networks.encoders import build_encoder
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusEnv, Task


@pytest.mark.parametrize(
    ("name", "stride", "channels"),
    [
        ("timm:tf_efficientnet_lite0", 16, 112),  # before the expansion of the block that halves the maps
        ("timm:tf_efficientnet_lite0", 8, 40),
        ("resnet18", 16, 256),
        ("resnet18", 4, 64),
        ("mobilenetv3_large_100", 16, 112),
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
        assert torch.equal(encoder.feature_maps(images), after.features)

    assert after.features.shape[1:] == (channels, 64 // stride, 96 // stride)
    assert torch.equal(after.pooled, before.pooled)
    assert list(encoder.state_dict()) == names, "weights no longer load"


def test_strides_that_a_network_lacks_are_named() -> None:
    with pytest.raises(ValueError, match="feature_stride=16, but small_resnet has no feature maps of this stride"):
        random_classifier(ClassifierSpec(encoder="small_resnet", patch_size=48, feature_stride=16))
    with pytest.raises(ValueError, match=r"feature_stride=5; pass one of 4, 8, 16, 32, or None"):
        ClassifierSpec(encoder="small_resnet", patch_size=48, feature_stride=5)


def test_a_classifier_with_finer_maps_is_frozen_saved_and_observed(scenes: ArrayImages, tmp_path: Path) -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, glance_size=64, feature_stride=4, num_glimpses=3)
    classifier = random_classifier(spec)
    save_classifier(tmp_path / "classifier.safetensors", classifier, scenes.class_names)
    loaded, _ = load_classifier(tmp_path / "classifier.safetensors")
    coarse, fast = random_classifier(ClassifierSpec(**{**vars(spec), "feature_stride": None})), frozen(classifier)
    coarse.load_state_dict(classifier.state_dict())

    assert classifier.feature_shape() == (32, 16, 16) and coarse.feature_shape() == (96, 8, 8)
    with torch.inference_mode():
        glimpse, same, folded = (one.glance(scenes.images[:4]) for one in (classifier, loaded, fast))
        other = coarse.glance(scenes.images[:4])
    assert torch.allclose(glimpse.features, same.features)
    assert torch.allclose(glimpse.features, folded.features, atol=1e-4)
    assert torch.allclose(glimpse.logits, other.logits, atol=1e-5), "predictions depend on the maps that are observed"

    env = GlanceFocusEnv(Task(scenes, fast), EpisodeSpec())
    observation, _ = env.reset(seed=0)
    assert observation["features"].shape == (32, 16, 16)
    assert env.step(env.action_space.sample())[0]["features"].shape == (32, 16, 16)


@pytest.mark.parametrize("shares_encoder", [False, True])
def test_trained_networks_can_give_finer_maps(shares_encoder: bool, scenes: ArrayImages) -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=2, shares_encoder=shares_encoder)
    classifier = random_classifier(spec)
    twin = classifier.with_spec(feature_stride=4)

    assert classifier.feature_shape() == (96, 6, 6) and twin.feature_shape() == (32, 12, 12)
    assert all(a is b for a, b in zip(classifier.parameters(), twin.parameters(), strict=True)), "weights were copied"
    assert (twin.global_encoder is twin.local_encoder) == shares_encoder
    before, after = (networks.glance(scenes.images[:4]) for networks in (classifier, twin))
    assert torch.equal(before.logits, after.logits) and before.features.shape[1:] == (96, 6, 6)
    fast = frozen(classifier).with_spec(feature_stride=4).glance(scenes.images[:4])
    assert torch.allclose(after.features, fast.features, atol=1e-4)
    with pytest.raises(ValueError, match="feature_stride=8, but these networks give feature maps of stride 4 already"):
        twin.with_spec(feature_stride=8)


def test_an_environment_takes_finer_maps() -> None:
    env = gymnasium.make("GFNet-SyntheticSigns-v0", num_scenes=5, feature_stride=4)
    assert env.observation_space["features"].shape == (32, 12, 12)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
