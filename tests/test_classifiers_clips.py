"""Glance and focus on clips: one place for all frames, every head, and the frozen twin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_classifier
from torch import Tensor

from classifiers import ClassifierSpec, FullResolutionNetwork, View, frozen
from classifiers.inference.compiled import best_micro_batch_size
from classifiers.networks.encoders import build_encoder
from classifiers.networks.geometry import RESIZE_MODES, crop_at, resize
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.preprocessing import Normalize, Preprocessing


def _spec(head: str = "cascade", frames: int = 4) -> ClassifierSpec:
    return ClassifierSpec(
        encoder=f"tsm{frames}:small_resnet", head=head, patch_size=32, glance_size=48, num_glimpses=3, hidden_size=8
    )


def _clips(count: int = 2, frames: int = 4, size: tuple[int, int] = (64, 80)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, 3, *size), dtype=torch.uint8, generator=generator)


def _look_right(view: View, state: None) -> tuple[Tensor, None]:
    return torch.tensor([[0.5, 1.0]]).expand(len(view.step), 2), None


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_clips_are_resized_frame_by_frame(mode: str) -> None:
    clips = _clips(3)

    small = resize(clips, (24, 24), mode)

    assert small.shape == (3, 4, 3, 24, 24)
    assert torch.allclose(small[1, 2], resize(clips[1, 2][None], (24, 24), mode)[0], atol=1e-4)


def test_patches_are_cut_from_one_place_in_all_frames() -> None:
    clips, locations = _clips(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])

    patches = crop_at(clips, locations, 32)
    again = crop_at(clips, locations[:1], 32, image_index=torch.tensor([1]))

    assert torch.equal(patches[0], clips[0, :, :, :32, 48:]) and torch.equal(patches[1], clips[1, :, :, 32:, :32])
    assert torch.equal(again[0], clips[1, :, :, :32, 48:])


def test_frames_are_normalized_as_images_are() -> None:
    clips, normalize = _clips(), Normalize(Preprocessing())

    normalized = normalize(clips)

    assert torch.equal(normalized[1, 3], normalize(clips[1, 3][None])[0])
    assert normalized.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_what_an_encoder_says_of_a_clip_is_the_mean_over_its_frames() -> None:
    encoder = build_encoder("tsm4:small_resnet", 5).eval()
    frames = torch.rand(1, 3, 32, 32).expand(4, 3, 32, 32)
    clip = frames[None]

    with torch.no_grad():
        features, pooled = encoder(clip)
        maps = encoder.trunk(frames)

    assert torch.allclose(features[0], maps.mean(dim=0), atol=1e-6)
    assert torch.allclose(pooled[0], encoder.pool(maps).mean(dim=0), atol=1e-6)


@pytest.mark.parametrize("head", ["gru", "cascade", "average"])
def test_an_episode_on_clips(head: str) -> None:
    classifier = random_classifier(_spec(head), 5)
    fast, clips = frozen(classifier), _clips()

    with torch.no_grad():
        glimpses = list(classifier.episode(clips, _look_right))
        frozen_ones = list(fast.episode(clips, _look_right))
        logits = classifier(clips, _look_right).logits

    assert len(glimpses) == 3 and logits.shape == (3, 2, 5)
    for (glimpse, _), (other, _) in zip(glimpses, frozen_ones, strict=True):
        assert glimpse.features.shape == (2, *classifier.feature_shape())
        assert glimpse.pooled.shape == (2, 96)
        assert torch.allclose(glimpse.logits, other.logits, atol=1e-4)
    patches = clips[..., 16:48, 48:]
    assert torch.allclose(classifier.focus(patches, glimpses[0][0].hidden).logits, glimpses[1][0].logits, atol=1e-5)


def test_the_order_of_frames_matters_to_logits_only_with_shift() -> None:
    shifted, image_network = random_classifier(_spec(), 5), random_classifier(_spec(frames=1), 5)
    image_network.load_state_dict(shifted.state_dict())
    clips = _clips()

    with torch.no_grad():
        forth, back = shifted.glance(clips).logits, shifted.glance(clips.flip(1)).logits
        frame_by_frame = [
            torch.stack([image_network.glance(frame[:, None]).logits for frame in frames.unbind(1)]).mean(dim=0)
            for frames in (clips, clips.flip(1))
        ]

    assert not torch.allclose(forth, back, atol=1e-3)
    assert torch.allclose(*frame_by_frame, atol=1e-5)


def test_clips_count_by_their_frames_in_micro_batches() -> None:
    assert best_micro_batch_size(torch.zeros(1, 3, 96, 96)) == 32
    assert best_micro_batch_size(torch.zeros(1, 8, 3, 96, 96)) == 4
    assert best_micro_batch_size(torch.zeros(1, 16, 3, 224, 224)) == 1


def test_gradients_reach_the_encoders_through_the_shift() -> None:
    classifier = GlanceFocusClassifier(_spec(), 5)

    classifier(_clips(), _look_right).logits.sum().backward()

    weights = [weight for name, weight in classifier.local_encoder.trunk.named_parameters() if name.endswith("weight")]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)


def test_encoders_of_clips_take_the_weights_of_their_networks() -> None:
    name, weights = "timm:tf_efficientnet_lite0", "package:efficientnet-lite0"
    of_images, of_clips = (build_encoder(each, 1000, weights) for each in (name, f"tsm2:{name}"))

    assert of_clips.num_frames == 2 and of_clips.preprocessing == of_images.preprocessing
    kept = of_clips.state_dict()
    assert all(torch.equal(kept[key], value) for key, value in of_images.state_dict().items())


def test_the_page_on_clips_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parent.parent / "docs" / "clips.md").read_text(encoding="utf-8")
    network = FullResolutionNetwork(build_encoder("tsm8:resnet18", 27)).eval()
    monkeypatch.setattr("classifiers.published.load_tsm", lambda path, num_frames: network)  # a file nobody ships
    names: dict[str, Any] = {}

    with torch.no_grad():
        for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(compile(snippet, "docs/clips.md", "exec"), names)

    assert names["focus"].logits.shape == names["logits"].shape == (2, 27)
