"""Temporal shift, and the checkpoints of its authors."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, fx
from tsm_weights import checkpoint, make_clips, recorded

from classifiers import CheckpointError
from classifiers.networks.costs import encoder_cost
from classifiers.networks.encoders import build_encoder, clip_frames
from classifiers.networks.temporal_shift import TemporalShift, first_convolutions
from classifiers.published import load_tsm


@pytest.fixture(scope="module")
def tsm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tsm") / "resnet50_segment8.pth.tar"
    torch.save({"epoch": 45, "arch": "resnet50", **checkpoint(recorded())}, path)
    return path


def _state(file: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(file, weights_only=True)["state_dict"]
    return state


def _authors_name(name: str, shifted: set[str]) -> str:
    convolution, _, leaf = name.rpartition(".")
    place = name.replace("fc.", "new_fc.") if name.startswith("fc.") else f"base_model.{name}"
    return f"base_model.{convolution}.net.{leaf}" if convolution in shifted else place


def _blocks(state: dict[str, Tensor]) -> list[str]:
    """The first convolution of every residual block."""
    return [name.removesuffix(".weight") for name in state if re.search(r"\.conv1\.weight$", name)]


def test_outputs_are_those_of_the_authors_code(tsm_file: Path) -> None:
    record = recorded()
    network = load_tsm(tsm_file, num_frames=8)
    clips = make_clips(record)

    with torch.no_grad():
        logits, maps = network(clips), network.encoder(clips).features

    assert not network.training
    assert torch.allclose(logits, torch.tensor(record["logits"]), atol=1e-3)
    means = torch.tensor(record["layer4_mean"]).mean(dim=1)  # (2, 8): of the first channels, averaged over frames
    assert torch.allclose(maps.mean(dim=(2, 3))[:, : means.shape[1]], means, atol=1e-3)


def test_prefix_may_be_missing_and_other_lengths_load(small_state: dict[str, Tensor], tmp_path: Path) -> None:
    networks = []
    for prefix in ("", "module."):
        torch.save({"state_dict": {f"{prefix}{key}": value for key, value in small_state.items()}}, tmp_path / "a.pth")
        networks.append(load_tsm(tmp_path / "a.pth", num_frames=4))

    with torch.no_grad():
        one, other = (network(torch.ones(1, 4, 3, 64, 64)) for network in networks)

    assert one.shape == (1, 5) and torch.equal(one, other)


@pytest.mark.parametrize(("name", "every"), [("resnet18", 1), pytest.param("resnet101", 2, marks=pytest.mark.slow)])
def test_depth_classes_and_shifts_are_read_from_the_file(name: str, every: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = torchvision.models.get_model(name, num_classes=11).eval()
    shifted = {block for block in _blocks(plain.state_dict()) if int(block.split(".")[1]) % every == 0}
    state = {_authors_name(key, shifted): value for key, value in plain.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "tsm.pth.tar")
    clips = torch.randn(2, 3, 3, 64, 64)

    network = load_tsm(tmp_path / "tsm.pth.tar", num_frames=3)

    for block in shifted:  # the authors wrap the convolutions themselves
        plain.set_submodule(block, torch.nn.Sequential(TemporalShift(3), plain.get_submodule(block)))
    with torch.no_grad():
        expected = plain(clips.flatten(0, 1)).unflatten(0, (2, 3)).mean(dim=1)
        tolerance = 1e-5 * float(expected.abs().max())  # untrained networks have large outputs
        assert torch.allclose(network(clips), expected, atol=tolerance)
        # chooses the same places by its own rule, and reads the file by itself
        built = build_encoder(f"tsm3:torchvision:{name}", 11, tmp_path / "tsm.pth.tar").eval()
        other = build_encoder(f"tsm3:torchvision:{name}", 4, tmp_path / "tsm.pth.tar")
        assert other.num_classes == 4 and torch.equal(other.trunk.conv1.weight, plain.conv1.weight)
        assert torch.allclose(built.classifier(built(clips).pooled), expected, atol=tolerance)


def _without(state: dict[str, Tensor], pattern: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not re.search(pattern, key)}


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "no state dict": (lambda state: {"weights": state}, "holds no network"),
    "a missing weight": (lambda state: {"state_dict": _without(state, r"layer1\.1\.bn2\.bias")}, "layer1.1.bn2.bias"),
    "a foreign weight": (lambda state: {"state_dict": {**state, "base_model.extra": torch.zeros(1)}}, "extra"),
    "no shift": (
        lambda state: {"state_dict": {k.replace(".net.", "."): v for k, v in state.items()}},
        "no convolution",
    ),
    "another number of blocks": (lambda state: {"state_dict": _without(state, r"layer3\.1\.")}, "2, 2, 1, 2"),
    "a shift elsewhere": (
        lambda state: {"state_dict": {key.replace("1.0.conv2.", "1.0.conv2.net."): v for key, v in state.items()}},
        "layer1.0.conv2",
    ),
    "code": (lambda state: {"state_dict": torch.nn.Linear(1, 1)}, "code"),
}


@pytest.fixture(scope="module")
def small_state() -> dict[str, Tensor]:
    """What the authors' file of a ResNet-18 would hold."""
    plain = torchvision.models.resnet18(num_classes=5).state_dict()
    return {_authors_name(name, set(_blocks(plain))): value for name, value in plain.items()}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_and_foreign_files_are_one_sentence(
    damage: str, small_state: dict[str, Tensor], tmp_path: Path
) -> None:
    change, named = DAMAGES[damage]
    torch.save(change(small_state), tmp_path / "damaged.pth.tar")

    with pytest.raises(CheckpointError, match=rf"damaged\.pth\.tar.*{re.escape(named)}"):
        load_tsm(tmp_path / "damaged.pth.tar", num_frames=8)


def test_clips_of_another_length_and_images_are_one_sentence() -> None:
    encoder, images = build_encoder("tsm4:small_resnet", 5).eval(), build_encoder("small_resnet", 5).eval()

    for shape in ((1, 8, 3, 64, 64), (4, 3, 64, 64), (1, 3, 4, 64, 64)):  # the last is torchvision's order for videos
        with pytest.raises(ValueError, match="takes clips"):
            encoder(torch.zeros(shape))
    with pytest.raises(ValueError, match="takes images"):
        images(torch.zeros(1, 4, 3, 64, 64))


def test_shift_moves_an_eighth_of_the_channels_each_way() -> None:
    frames = torch.arange(1.0, 4.0).view(3, 1, 1, 1).expand(3, 17, 1, 1)  # channels hold the frame's number; C // 8 = 2
    maps = torch.cat([frames, 10 * frames])  # two clips

    shifted = TemporalShift(3)(maps)[..., 0, 0]

    assert shifted[:3, :2].tolist() == [[2, 2], [3, 3], [0, 0]]
    assert shifted[:3, 2:4].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert torch.equal(shifted[:, 4:], maps[:, 4:, 0, 0])
    assert torch.equal(shifted[3:], 10 * shifted[:3])


@pytest.mark.parametrize(
    ("name", "stages", "first"),
    [
        ("small_resnet", [1, 1], "1.residual.0"),
        ("resnet18", [2, 2, 2, 2], "layer1.0.conv1"),
        ("torchvision:mobilenet_v2", [1, 2, 3, 2, 2], "features.3.conv.0.0"),  # blocks with a shortcut only
        ("timm:regnety_002", [1, 1, 4, 7], "s1.b1.conv1.conv"),
        ("timm:convnext_atto", [2, 2, 6, 2], "stages.0.blocks.0.conv_dw"),
    ],
)
def test_residual_blocks_are_found(name: str, stages: list[int], first: str) -> None:
    encoder = build_encoder(name, 3)
    trunk = encoder.trunk if isinstance(encoder.trunk, fx.GraphModule) else fx.symbolic_trace(encoder.trunk)

    found = first_convolutions(trunk)
    assert [len(stage) for stage in found] == stages
    assert found[0][0] == first


def test_a_network_without_residual_blocks_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="densenet121 has no residual block"):
        build_encoder("tsm8:densenet121", 5)
    assert clip_frames("tsm16:resnet50") == 16 and clip_frames("resnet50") is None


def test_a_clip_costs_what_its_frames_cost() -> None:
    clips = build_encoder("tsm8:resnet50", 174)
    images = build_encoder("resnet50", 174)

    per_clip = encoder_cost(clips, (128, 128), with_classifier=True)

    assert per_clip == 8 * encoder_cost(images, (128, 128), with_classifier=False) + 174 * 2048
    assert 32e9 < (224 / 128) ** 2 * per_clip < 34e9  # TSM's Table 2: 33 G at 224x224
