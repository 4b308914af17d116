from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_classifier
from torch import nn

from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.costs import encoder_cost
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.heads import HEADS, AverageHead, CascadeHead, GRUHead
from classifiers.networks.spec import ClassifierSpec


def test_nothing_is_kept_between_calls(classifier: FrozenClassifier) -> None:
    patches = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    hidden = torch.randn(2, classifier.hidden_size)

    first = classifier.focus(patches, hidden)
    classifier.focus(patches.flip(0), torch.randn(2, classifier.hidden_size))

    assert torch.equal(first.logits, classifier.focus(patches, hidden).logits)


def test_gru_head_is_a_gru() -> None:
    head = GRUHead(6, 4, 3, 5)
    reference = nn.GRU(6, 5)
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(reference, f"{name}_l0").copy_(getattr(head.cell, name))
    inputs = torch.randn(3, 2, 6)

    hidden = torch.zeros(2, 5)
    for pooled in inputs:
        logits, hidden = head(pooled, None, hidden)

    expected = reference(inputs)[1][0]
    assert torch.allclose(hidden, expected, atol=1e-6)
    assert torch.allclose(logits, head.classifier(expected), atol=1e-6)


def test_cascade_head_classifies_the_concatenation_of_all_vectors() -> None:
    head = CascadeHead(2, 3, 3, hidden_size=0)
    hidden, vectors = torch.zeros(1, head.hidden_size), torch.randn(3, 1, 2)
    first_logits = torch.randn(1, 3)

    outputs = []
    for step, pooled in enumerate(vectors):
        logits, hidden = head(pooled, None if step else first_logits, hidden)
        outputs.append(logits)

    assert torch.equal(outputs[0], first_logits)
    for step in (1, 2):
        seen = vectors[: step + 1].flatten(0).view(1, -1)
        assert torch.allclose(outputs[step], head.classifiers[step - 1](seen), atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_a_known_step_changes_nothing(name: str) -> None:
    head = HEADS[name](2, 3, 4, 5, "head").eval()
    hidden = torch.zeros(2, head.hidden_size)

    for step in range(1, 5):
        pooled, encoder_logits = torch.randn(2, 2), torch.randn(2, 3)
        reads = head.reads_encoder_logits(is_first=step == 1)
        inputs = (pooled, encoder_logits if reads else None, hidden)
        expected, after = head(*inputs)
        for ours, theirs in zip(head(*inputs, step), (expected, after), strict=True):
            assert torch.equal(ours, theirs)
        hidden = after


def test_cascade_rows_may_be_at_different_steps() -> None:
    head = CascadeHead(2, 3, 3, hidden_size=0)
    logits, pooled = torch.randn(2, 3), torch.randn(2, 2)
    _, after_one = head(pooled, logits, torch.zeros(2, head.hidden_size))
    _, after_two = head(pooled, None, after_one)
    mixed = torch.stack([after_one[0], after_two[1]])

    together, _ = head(pooled, None, mixed)

    for row in (0, 1):
        alone, _ = head(pooled[row : row + 1], None, mixed[row : row + 1])
        assert torch.allclose(together[row], alone[0], atol=1e-6)


def test_average_head_is_the_running_mean() -> None:
    head = AverageHead(4, 3, 5, hidden_size=0)
    hidden, steps = torch.zeros(2, head.hidden_size), torch.randn(4, 2, 3)

    for encoder_logits in steps:
        logits, hidden = head(torch.zeros(2, 4), encoder_logits, hidden)

    assert torch.allclose(logits, steps.mean(0), atol=1e-6)
    assert not list(head.parameters())


@pytest.mark.parametrize(
    ("encoder", "head"), [("small_resnet", "gru"), ("resnet18", "cascade"), ("timm:mobilenetv3_small_050", "average")]
)
def test_frozen_twin_agrees_and_leaves_the_original_alone(encoder: str, head: str) -> None:
    spec = ClassifierSpec(encoder=encoder, head=head, patch_size=48, num_glimpses=3, hidden_size=8)
    original = random_classifier(spec, 7)
    before = {name: value.clone() for name, value in original.state_dict().items()}

    twin = frozen(original)

    images = torch.randint(0, 256, (3, 3, 64, 80), dtype=torch.uint8)
    with torch.no_grad():
        glance, expected = twin.glance(images), original.glance(images)
        focus = twin.focus(images[:, :, :48, :48], glance.hidden)
        expected_focus = original.focus(images[:, :, :48, :48], expected.hidden)
    for ours, theirs in ((glance, expected), (focus, expected_focus)):
        for part, reference in zip(ours, theirs, strict=True):
            assert (part - reference).abs().max() <= 1e-4 * max(1.0, float(reference.abs().max()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.modules())
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())


def test_frozen_twin_can_not_be_trained(classifier: FrozenClassifier) -> None:
    classifier.train()

    assert not classifier.training
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    assert not classifier.glance(torch.zeros(1, 3, 64, 64)).logits.requires_grad
    assert frozen(classifier) is classifier


@pytest.mark.slow
def test_compiled_twin_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # independent of what the user's own cache holds
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=3, hidden_size=8)
    original = random_classifier(spec)
    images = torch.randint(0, 256, (131, 3, 64, 80), dtype=torch.uint8)

    twin = frozen(frozen(original), compile=True)

    for count in (1, 4, 32, 67, 131):  # alone, padded, one micro-batch, several, several of two sizes
        expected = frozen(original).glance(images[:count])
        for ours, theirs in zip(twin.glance(images[:count]), expected, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)
    assert torch.equal(twin.glance(images[:5]).logits[2], twin.glance(images[2:9]).logits[0])
    pixels, hidden = images[:32, :, 8:56, 20:68], torch.zeros(32, 8)
    for patches in (pixels, original.normalize(pixels)):  # bytes are normalized in the compiled graph
        for ours, theirs in zip(twin.focus(patches, hidden), frozen(original).focus(patches, hidden), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)
    assert frozen(twin) is twin and frozen(twin, compile=True) is twin


def test_costs_of_table_4() -> None:
    # 44.7e9 at 960x1280, of which this is a 16th
    resnet18 = build_encoder("resnet18", 10)
    assert encoder_cost(resnet18, (240, 320), with_classifier=True) * 16 == pytest.approx(44.7e9, rel=0.01)


def test_full_resolution_network_can_look_at_a_smaller_image() -> None:
    network = FullResolutionNetwork(build_encoder("small_resnet", 4), (48, 48), "bilinear").eval()
    seen: list[torch.Size] = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))

    network(torch.zeros(1, 3, 96, 128, dtype=torch.uint8))

    assert seen == [(1, 3, 48, 48)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("encoder", "small_resnt"), ("head", "lstm"), ("patch_size", 2), ("num_glimpses", 1), ("resize_mode", "nearest")],
)
def test_bad_specs_name_the_setting(name: str, value: Any) -> None:
    settings: dict[str, Any] = {"encoder": "resnet18", name: value}
    with pytest.raises(ValueError, match=name):
        ClassifierSpec(**settings)


def test_too_few_classes_raise() -> None:
    with pytest.raises(ValueError, match="num_classes=1"):
        GlanceFocusClassifier(ClassifierSpec(encoder="small_resnet"), 1)
