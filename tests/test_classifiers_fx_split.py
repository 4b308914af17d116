"""Any network becomes an encoder: the paper's, and those that nobody prepared."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from classifiers.inference.fold_batch_norms import fold_batch_norms
from classifiers.networks.costs import encoder_cost
from classifiers.networks.encoders import ENCODERS, build_encoder
from classifiers.networks.fx_split import SplitError, split_network

SHAPES = {
    "small_resnet": ((96, 12, 12), 96),
    "resnet18": ((512, 3, 3), 512),
    "resnet50": ((2048, 3, 3), 2048),
    "densenet121": ((1024, 3, 3), 1024),
    "densenet169": ((1664, 3, 3), 1664),
    "densenet201": ((1920, 3, 3), 1920),
    "regnety_600m": ((608, 3, 3), 608),
    "regnety_800m": ((768, 3, 3), 768),
    "regnety_1.6g": ((888, 3, 3), 888),
    "mobilenetv3_large_100": ((960, 3, 3), 1280),
    "mobilenetv3_large_125": ((1200, 3, 3), 1280),
    "efficientnet_b2": ((1408, 3, 3), 1408),
    "efficientnet_b3": ((1536, 3, 3), 1536),
    "timm:convnext_atto": ((320, 3, 3), 320),
    "torchvision:swin_t": ((768, 3, 3), 768),  # maps are channels-last inside
}


def test_every_named_encoder_is_tried() -> None:
    assert set(ENCODERS) <= set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_maps_and_vectors_are_found(name: str) -> None:
    maps, pooled = SHAPES[name]
    encoder = build_encoder(name, 7).eval()

    with torch.no_grad():
        encoding = encoder(torch.rand(1, 3, 96, 96))

    assert encoding.features.shape == (1, *maps)
    assert encoding.pooled.shape == (1, pooled)
    assert encoder.classifier(encoding.pooled).shape == (1, 7)


@pytest.mark.parametrize("name", ["densenet121", "regnety_600m", "mobilenetv3_large_100", "efficientnet_b2"])
def test_parts_together_are_the_network(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, 1000).eval()
    images = torch.randn(2, 3, 96, 96)

    with torch.no_grad():
        expected = encoder.trunk(images)
        folded = fold_batch_norms(encoder.trunk)(images)

    assert torch.allclose(folded, expected, atol=1e-4 * float(expected.abs().max()))


def test_split_network_computes_what_the_whole_one_does() -> None:
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v3_small().eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = network(images)

        trunk, pool, classifier = split_network(network, "mobilenet_v3_small")

        assert torch.equal(classifier(pool(trunk(images))), expected)


def test_layers_still_know_training_from_evaluation() -> None:
    encoder = build_encoder("torchvision:efficientnet_b0", 4, None).train()  # stochastic depth and dropout
    images = torch.randn(2, 3, 64, 64)

    with torch.no_grad():
        assert not torch.equal(encoder(images).features, encoder(images).features)
        encoder.eval()
        assert torch.equal(encoder(images).features, encoder(images).features)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("torchvision:vit_b_16", "can't be used on 96x96 images"),
        ("torchvision:squeezenet1_0", "does not end in a linear layer"),
        ("timm:convnext_tini", "did you mean timm:convnext_tiny"),
        ("torchvision:resnet51", "did you mean torchvision:resnet"),
        ("resnet_50", "perhaps resnet50"),
    ],
)
def test_what_can_not_be_an_encoder_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build_encoder(name, 10)


def test_a_network_without_maps_is_refused() -> None:
    with pytest.raises(SplitError, match="no feature map"):
        split_network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 96 * 96, 4)), "flat")


@pytest.mark.parametrize(
    ("name", "size", "paper"),
    [
        ("resnet50", 224, 4.11e9),
        ("densenet121", 224, 2.85e9),
        ("densenet169", 224, 3.36e9),
    ],
)
def test_costs_of_table_1(name: str, size: int, paper: float) -> None:
    cost = encoder_cost(build_encoder(name, 1000), (size, size), with_classifier=True)

    assert cost == pytest.approx(paper, rel=0.01)
