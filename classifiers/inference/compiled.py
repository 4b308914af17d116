"""An encoder compiled with `torch.compile`, for batches of any size."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch._dynamo import config as dynamo
from torch._inductor import config as inductor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from classifiers.networks.encoders import Encoder, Encoding

_PIXELS_IN_MICRO_BATCH, _LEAST_MICRO_BATCH, _MOST_IN_MICRO_BATCH = 300_000, 32, 128
_MOST_VARIANTS = 256  # torch counts recompilations over all encoders of a process, and gives up after 8 by default


class CompiledEncoder(Encoder):
    """An encoder compiled for micro-batches of three sizes: `micro_batch_size` images, 32 (padded), or one.

    Nothing is recompiled when the number of images changes, as it does when episodes end at different steps. The
    weights are constants to the compiler, which reorders them once for the processor's convolutions instead of in every
    forward pass.

    Args:
        encoder: with folded batch normalizations and without gradients.
        micro_batch_size: images in a micro-batch; None chooses by the images' size, see `best_micro_batch_size`.
    """

    def __init__(self, encoder: Encoder, micro_batch_size: int | None = None) -> None:
        super().__init__(encoder.trunk, encoder.pool, encoder.classifier, encoder.preprocessing, encoder.num_frames)
        self.to(encoder.classifier.weight.device)
        self.micro_batch_size = micro_batch_size
        self._compiled = torch.compile(self._encode, dynamic=False)

    def forward(self, images: Tensor) -> Encoding:
        """As `Encoder.forward`, in micro-batches."""
        return self._in_micro_batches(images, are_pixels=False)

    def encode_pixels(self, pixels: Tensor) -> Encoding:
        """As `Encoder.encode_pixels`; normalization is fused into the compiled graph."""
        return self._in_micro_batches(pixels, are_pixels=True)

    def _encode(self, images: Tensor, are_pixels: bool) -> Encoding:
        return Encoder.forward(self, self.normalize(images) if are_pixels else images)

    def _in_micro_batches(self, images: Tensor, *, are_pixels: bool) -> Encoding:
        most = self.micro_batch_size or best_micro_batch_size(images)
        least = min(most, _LEAST_MICRO_BATCH)
        if len(images) in (1, least, most):
            return self._run(images, are_pixels)
        whole, rest = divmod(len(images), most)
        sizes = [most] * whole + [least] * (rest // least) + ([rest % least] if rest % least else [])
        encodings = [self._run(_padded(chunk, least), are_pixels) for chunk in images.split(sizes)]
        return Encoding(*(torch.cat(outputs)[: len(images)] for outputs in zip(*encodings, strict=True)))

    def _run(self, images: Tensor, are_pixels: bool) -> Encoding:
        with (
            inductor.patch(freezing=images.device.type == "cpu"),  # must be set around the call, not in torch.compile
            dynamo.patch(recompile_limit=_MOST_VARIANTS),
        ):
            encoding: Encoding = self._compiled(images, are_pixels)
        return encoding


def has_compiler() -> bool:
    """Whether `torch.compile` finds the C++ compiler that it needs on a processor."""
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def best_micro_batch_size(images: Tensor) -> int:
    """The number of images of this size that is fastest to encode at once.

    CPUs are fastest when the activations of a micro-batch fit into their caches and still keep every core busy: 128
    images of 48x48 pixels, 32 of 96x96, 8 of 224x224. Accelerators take 128. Clips count by their frames.

    Args:
        images: (B, 3, H, W) or (B, F, 3, H, W).

    Returns:
        8 to 128, for images a power of two; for clips, 1 or more.
    """
    most = _MOST_IN_MICRO_BATCH
    if images.device.type == "cpu":
        fitting = _PIXELS_IN_MICRO_BATCH / (images.shape[-2] * images.shape[-1])
        most = min(1 << max(round(math.log2(fitting)), 3), most)
    return max(1, most // math.prod(images.shape[1:-3]))


def _padded(images: Tensor, least: int) -> Tensor:
    """Repeats the last image until there are `least`."""
    missing = least - len(images)
    return torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]) if missing > 0 else images
