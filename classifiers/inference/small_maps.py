"""Convolutions of small feature maps, whose images processors compute together, not one by one.

Processors' convolutions go along the rows of an image's map, and a row of the last maps of a 96x96 patch has 3 pixels:
there they reach half the speed that they have on 224x224. Seen as one image whose rows are all images' rows, the maps
of a batch are as good as large ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_SIDE_OF_SMALL, _SIDE_FOR_COLUMNS = 6, 3  # pixels; larger maps are no faster together


def batch_small_maps(module: nn.Module) -> nn.Module:
    """Replaces every convolution of a module that can be a `BatchedConv2d` by one, which shares its weights.

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
    """A convolution of 1x1 or of 3x3 with a margin of 1 that computes small maps of all images of a batch as one map.

    Pointwise it is given all rows of all images below each other. Of 3x3 it is a pointwise one of nine times the
    channels, a pixel's neighbours side by side: that costs copies, and pays for the smallest maps only. For an image
    alone, and on accelerators, it is the plain convolution.

    Args:
        convolution: whose weights are used.
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
        """Like `torch.nn.Conv2d`, to rounding.

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
        pixels = input.permute(0, 2, 3, 1)  # the order in which channels-last maps lie in memory
        if is_pointwise:
            weight = self.weight
            pixels = pixels[:, :: self.stride[0], :: self.stride[1]]
        else:
            weight = self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1, 1, 1)
            pixels = self._neighbours(pixels, rows, columns)
        below_each_other = pixels.reshape(1, count * rows, columns, -1).permute(0, 3, 1, 2)
        output = functional.conv2d(below_each_other, weight, self.bias)
        return output.permute(0, 2, 3, 1).reshape(count, rows, columns, -1).permute(0, 3, 1, 2)

    def _neighbours(self, pixels: Tensor, rows: int, columns: int) -> Tensor:
        """(B, H, W, C) to (B, H', W', 9 C): the nine pixels that each output pixel is made of."""
        down, right = self.stride
        padded = functional.pad(pixels, (0, 0, 1, 1, 1, 1))
        parts = [
            padded[:, y : y + down * (rows - 1) + 1 : down, x : x + right * (columns - 1) + 1 : right]
            for y in range(3)
            for x in range(3)
        ]
        return torch.cat(parts, dim=-1)
