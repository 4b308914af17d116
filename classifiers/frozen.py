"""The classifier as the environment uses it: without gradients and training-time parts, and fast."""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch._dynamo import config as dynamo
from torch._inductor import config as inductor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from classifiers.encoders import Encoder, Encoding
from classifiers.glance_focus import GlanceFocusClassifier, Glimpse
from classifiers.normalization import Normalize
from classifiers.small_maps import compute_small_maps_together

_PIXELS_IN_PART, _LEAST_PART, _MOST_IN_PART = 300_000, 32, 128
_MOST_VARIANTS = 256  # the compiler counts those of all encoders of a process together, and stops at 8 by default


class FrozenClassifier(GlanceFocusClassifier):
    """A classifier that can't be trained: made by `frozen`, used like the one that it was made from."""

    @torch.inference_mode()
    def glance(self, images: Tensor) -> Glimpse:
        """See `GlanceFocusClassifier.glance`."""
        return super().glance(images)

    @torch.inference_mode()
    def focus(self, patches: Tensor, hidden: Tensor) -> Glimpse:
        """See `GlanceFocusClassifier.focus`."""
        return super().focus(patches, hidden)

    def _encode(self, encoder: Encoder, inputs: Tensor, are_pixels: bool) -> Encoding:
        if isinstance(encoder, CompiledEncoder) and are_pixels:
            return encoder.encode_pixels(inputs)
        return super()._encode(encoder, inputs, are_pixels)

    def train(self, mode: bool = True) -> FrozenClassifier:
        """Stays in evaluation mode."""
        super().train(False)
        return self


def frozen(classifier: GlanceFocusClassifier, *, compile: bool = False) -> FrozenClassifier:
    """A gradient-free twin for inference, whose outputs agree with the original's to 1e-4.

    Batch normalisations are folded into the convolutions before them and weights are laid out channels-last. The
    original is left as it was and shares nothing with the twin.

    Args:
        classifier: the networks.
        compile: also compile the encoders with `torch.compile` (20 to 60 s once, on the first batch).

    Returns:
        The twin, in evaluation mode on the same device.
    """
    is_compiled = isinstance(classifier.local_encoder, CompiledEncoder)
    if isinstance(classifier, FrozenClassifier) and (is_compiled or not compile):
        return classifier
    twin = copy.deepcopy(classifier)
    twin.__class__ = FrozenClassifier
    twin = cast(FrozenClassifier, twin).eval().requires_grad_(False)
    is_one = twin.local_encoder is twin.global_encoder
    twin.global_encoder = _fast(twin.global_encoder, compile)
    twin.local_encoder = twin.global_encoder if is_one else _fast(twin.local_encoder, compile)
    return twin


def _fast(encoder: Encoder, compile: bool) -> Encoder:
    encoder.trunk = fold_batch_norms(encoder.trunk).to(memory_format=torch.channels_last)
    if not compile:
        return encoder
    compute_small_maps_together(encoder.trunk)
    return CompiledEncoder(encoder)


class CompiledEncoder(Encoder):
    """An encoder compiled for parts of a batch: `part_size` images, 32 of the rest (filled up), or one alone.

    So nothing is compiled anew when the number of images changes, as it does when episodes end at different steps. The
    weights are constants to the compiler, which lays them out once as processors' convolutions want them, not in every
    forward.

    Args:
        encoder: folded and without gradients.
        part_size: images in a part; None takes what suits the images' size, see `best_part_size`.
    """

    def __init__(self, encoder: Encoder, part_size: int | None = None) -> None:
        super().__init__(encoder.trunk, encoder.pool, encoder.classifier)
        self.normalize = Normalize().to(encoder.classifier.weight.device)
        self.part_size = part_size
        self._compiled = torch.compile(self._encode, dynamic=False)

    def forward(self, images: Tensor) -> Encoding:
        """See `Encoder.forward`."""
        return self._in_parts(images, are_pixels=False)

    def encode_pixels(self, pixels: Tensor) -> Encoding:
        """Normalises and encodes at once: bytes become a convolution's input in one pass over them.

        Args:
            pixels: (B, 3, H, W) in [0, 255], uint8 or float.

        Returns:
            What `forward` returns for them normalised.
        """
        return self._in_parts(pixels, are_pixels=True)

    def _encode(self, images: Tensor, are_pixels: bool) -> Encoding:
        return Encoder.forward(self, self.normalize(images) if are_pixels else images)

    def _in_parts(self, images: Tensor, *, are_pixels: bool) -> Encoding:
        most = self.part_size or best_part_size(images)
        least = min(most, _LEAST_PART)
        if len(images) in (1, least, most):
            return self._run(images, are_pixels)
        whole, rest = divmod(len(images), most)
        sizes = [most] * whole + [least] * (rest // least) + ([rest % least] if rest % least else [])
        encodings = [self._run(_filled(part, least), are_pixels) for part in images.split(sizes)]
        return Encoding(*(torch.cat(outputs)[: len(images)] for outputs in zip(*encodings, strict=True)))

    def _run(self, images: Tensor, are_pixels: bool) -> Encoding:
        with (
            inductor.patch(freezing=images.device.type == "cpu"),  # torch.compile's own options come too late for it
            dynamo.patch(recompile_limit=_MOST_VARIANTS),
        ):
            encoding: Encoding = self._compiled(images, are_pixels)
        return encoding


def best_part_size(images: Tensor) -> int:
    """How many of these images are best encoded at once.

    Processors are fastest when a part's activations stay in their caches and yet are many enough for a core to be
    busy: 128 images of 48x48 pixels, 32 of 96x96, 8 of 224x224. Accelerators take what fits.

    Args:
        images: (B, 3, H, W).

    Returns:
        A power of two, 8 to 128.
    """
    if images.device.type != "cpu":
        return _MOST_IN_PART
    fitting = _PIXELS_IN_PART / (images.shape[2] * images.shape[3])
    return min(1 << max(round(math.log2(fitting)), 3), _MOST_IN_PART)


def _filled(images: Tensor, least: int) -> Tensor:
    """The last image again and again, until there are enough."""
    missing = least - len(images)
    return torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing > 0 else images


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Folds every batch normalisation that directly follows a convolution into it.

    Args:
        module: a traceable module in evaluation mode.

    Returns:
        A traced copy without those batch normalisations.
    """
    copied = copy.deepcopy(module)
    traced = copied if isinstance(copied, fx.GraphModule) else fx.symbolic_trace(copied)
    parts = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(parts[node.target], nn.BatchNorm2d):
            continue
        source, norm = node.args[0], parts[node.target]
        if source.op != "call_module" or len(source.users) > 1 or type(parts[source.target]) is not nn.Conv2d:
            continue
        fused = fuse_conv_bn_eval(parts[source.target], norm)
        traced.set_submodule(source.target, fused)
        parts[source.target] = fused
        if any(True for _ in norm.children()):  # timm's normalisation with an activation in it
            traced.set_submodule(node.target, nn.Sequential(*norm.children()))
            continue
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
