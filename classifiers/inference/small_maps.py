"""Convolutions that compute the small feature maps of a batch together instead of image by image.

On CPUs, convolutions work along the rows of a map, and the last maps of a 96x96 patch have rows of 3 pixels: there they
reach half the speed that they have on 224x224. Stacking the rows of all images into one tall image makes small maps as
fast as large ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_SIDE_OF_SMALL, _SIDE_FOR_COLUMNS = 6, 3  # pixels; larger maps gain nothing


def batch_small_maps(module: nn.Module) -> nn.Module:
    """Replaces every suitable convolution of a module by a `BatchedConv2d` that shares its weights.

    Args:
        module: for inference, with channels-last weights; its convolutions are replaced in place.

    Returns:
        The module; if it is a convolution itself, its replacement.
    """
    if type(module) is nn.Conv2d:
        return BatchedConv2d(module) if _is_plain(module) else module
    for name, child in list(module.named_modules()):
        if type(child) is nn.Conv2d and _is_plain(child):
            module.set_submodule(name, BatchedConv2d(child))
    return module


def _is_plain(convolution: nn.Conv2d) -> bool:
    kernel, padding = convolution.kernel_size, convolution.padding
    is_common = (kernel, padding) in (((1, 1), (0, 0)), ((3, 3), (1, 1)))
    return (
        is_common and convolution.groups == 1 and convolution.dilation == (1, 1) and convolution.padding_mode == "zeros"
    )


class BatchedConv2d(nn.Conv2d):
    """A 1x1 convolution, or a 3x3 one with padding 1, that computes the small maps of a batch as one map.

    A 1x1 convolution sees the rows of all images stacked. A 3x3 convolution becomes a 1x1 one on nine times the
    channels, each pixel's neighbourhood concatenated; that needs copies and only pays off for the smallest maps. For a
    single image and on accelerators it is an ordinary convolution.

    Args:
        convolution: provides the weights.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            (convolution.kernel_size[0], convolution.kernel_size[1]),
            (convolution.stride[0], convolution.stride[1]),
            padding=(convolution.kernel_size[0] // 2, convolution.kernel_size[1] // 2),
            bias=False,
            device="meta",
        )
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, input: Tensor) -> Tensor:
        """Equals `torch.nn.Conv2d` up to rounding.

        Args:
            input: (B, C, H, W).

        Returns:
            (B, O, H', W').
        """
        count, _, *sides = input.shape
        rows, columns = ((side - 1) // stride + 1 for side, stride in zip(sides, self.stride, strict=True))
        is_pointwise = self.kernel_size == (1, 1)
        is_small = max(rows, columns) <= (_SIDE_OF_SMALL if is_pointwise else _SIDE_FOR_COLUMNS)
        if input.device.type != "cpu" or count == 1 or not is_small:
            return super().forward(input)
        pixels = input.permute(0, 2, 3, 1)  # the memory order of channels-last maps
        if is_pointwise:
            weight = self.weight
            pixels = pixels[:, :: self.stride[0], :: self.stride[1]]
        else:
            weight = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1, 1, 1)
            pixels = self._neighbours(pixels, rows, columns)
        stacked = pixels.reshape(1, count * rows, columns, -1).permute(0, 3, 1, 2)
        output = functional.conv2d(stacked, weight, self.bias)
        return output.permute(0, 2, 3, 1).reshape(count, rows, columns, -1).permute(0, 3, 1, 2)

    def _neighbours(self, pixels: Tensor, rows: int, columns: int) -> Tensor:
        """(B, H, W, C) to (B, H', W', 9 C): the 3x3 neighbourhood of each output pixel."""
        down, right = self.stride
        padded = functional.pad(pixels, (0, 0, 1, 1, 1, 1))
        shifted = [
            padded[:, y : y + down * (rows - 1) + 1 : down, x : x + right * (columns - 1) + 1 : right]
            for y in range(3)
            for x in range(3)
        ]
        return torch.cat(shifted, dim=-1)
