"""Encoders prepare images as the library that their weights come from does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.networks.encoders import Encoder, build_encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from classifiers.networks.spec import ClassifierSpec

SIDE = 224


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """(224, 224, 3) uint8, a crop of a photo."""
    pixels = load_sample_image("china.jpg")
    return np.ascontiguousarray(pixels[60 : 60 + SIDE, 200 : 200 + SIDE])


@torch.inference_mode()
def _logits(encoder: Encoder, photo: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None]
    logits: torch.Tensor = encoder.eval().classifier(encoder.encode_pixels(pixels).pooled)
    return logits


@torch.inference_mode()
def test_timm_networks_see_what_timm_gives_them(photo: np.ndarray) -> None:
    """A network whose mean is not ImageNet's."""
    timm = pytest.importorskip("timm")
    name = "tf_efficientnet_lite0"
    encoder = build_encoder(f"timm:{name}", 1000)
    network = timm.create_model(name).eval()
    _copy_weights(encoder, network)
    pipeline = timm.data.create_transform(input_size=(3, SIDE, SIDE), crop_pct=1.0, **_statistics(network))

    expected = network(pipeline(Image.fromarray(photo))[None])

    assert encoder.preprocessing == Preprocessing(
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", crop_pct=0.875
    )
    assert (_logits(encoder, photo) - expected).abs().max() <= 1e-4 * expected.abs().max()


@torch.inference_mode()
def test_torchvision_networks_see_what_torchvision_gives_them(
    photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights, in the place where torchvision would have downloaded its own to."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    network = torchvision.models.resnet18().eval()
    file = tmp_path / "hub" / "checkpoints" / Path(weights.url).name
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)

    encoder = build_encoder("resnet18", 1000, "IMAGENET1K_V1")

    pipeline = weights.transforms(crop_size=SIDE, resize_size=SIDE)
    expected = network(pipeline(Image.fromarray(photo))[None])
    assert (_logits(encoder, photo) - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert encoder.preprocessing == Preprocessing(crop_pct=224 / 256)


def test_random_weights_are_prepared_for_as_imagenets() -> None:
    preprocessing = build_encoder("small_resnet", 4).preprocessing

    assert (preprocessing.mean, preprocessing.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_a_file_keeps_its_preprocessing_and_files_without_take_imagenets(tmp_path: Path) -> None:
    classifier = GlanceFocusClassifier(ClassifierSpec(encoder="small_resnet", hidden_size=4, patch_size=48), 2)
    own = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3), interpolation="bicubic", crop_pct=0.9)
    for encoder in (classifier.global_encoder, classifier.local_encoder):
        encoder.use_preprocessing(own)
    path, older = tmp_path / "new.safetensors", tmp_path / "old.safetensors"
    save_classifier(path, classifier, ("a", "b"))
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        header = json.loads(file.metadata()["gfnet-classifier"])
    older_header = {key: header[key] for key in ("spec", "class_names")}
    save_file(tensors, older, {"gfnet-classifier": json.dumps(older_header)})

    assert load_classifier(path)[0].preprocessing == own
    again = load_classifier(older)[0]
    white = again.normalize(torch.full((1, 3, 1, 1), 255.0)).flatten()
    assert again.preprocessing == Preprocessing()
    assert white.tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


def _copy_weights(encoder: Encoder, network: torch.nn.Module) -> None:
    """By name: parts of an encoder keep the names of the network that they were cut from."""
    theirs = network.state_dict()
    for name, value in encoder.state_dict().items():
        part, _, own = name.partition(".")
        value.copy_(theirs[f"classifier.{own}" if part == "classifier" else own])


def _statistics(network: torch.nn.Module) -> dict[str, object]:
    config = network.pretrained_cfg
    assert isinstance(config, dict)
    return {key: config[key] for key in ("mean", "std", "interpolation")}
