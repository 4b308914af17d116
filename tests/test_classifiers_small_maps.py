"""Convolutions that compute the small maps of a batch together."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from classifiers.inference.small_maps import BatchedConv2d, batch_small_maps


@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (3, 3), (5, 4), (6, 6), (7, 3), (12, 12)])
@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("count", [1, 4])
def test_agrees_with_the_convolution(
    count: int, kernel: int, stride: int | tuple[int, int], sides: tuple[int, int]
) -> None:
    plain = nn.Conv2d(5, 7, kernel, stride, padding=kernel // 2, bias=count == 1).requires_grad_(False)
    images = torch.randn(count, 5, *sides).to(memory_format=torch.channels_last)

    batched = batch_small_maps(copy.deepcopy(plain))

    assert isinstance(batched, BatchedConv2d)
    assert torch.allclose(batched(images), plain(images), atol=1e-5)
    assert batched(images.contiguous()).shape == plain(images).shape


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 1, padding=1),
        nn.Conv2d(4, 4, 7, padding=3),
        nn.Conv2d(4, 4, (1, 3), padding=(0, 1)),
        nn.Conv2d(4, 4, 3, padding="same"),
    ],
)
def test_others_are_left_alone(convolution: nn.Conv2d) -> None:
    assert type(batch_small_maps(nn.Sequential(convolution))[0]) is nn.Conv2d


def test_image_by_image_and_together_the_sums_are_the_same() -> None:
    batched = batch_small_maps(nn.Conv2d(64, 32, 3, padding=1)).requires_grad_(False)
    images = torch.randn(32, 64, 3, 3).to(memory_format=torch.channels_last)

    assert torch.equal(batched(images)[5:9], batched(images.roll(3, dims=0))[8:12])
