"""The classifier as the environment uses it: without gradients and training-time parts, and fast."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch._dynamo import config as dynamo
from torch._inductor import config as inductor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from classifiers.encoders import Encoder, Encoding
from classifiers.glance_focus import GlanceFocusClassifier, Glimpse
from classifiers.normalization import Normalize

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
    return CompiledEncoder(encoder) if compile else encoder


class CompiledEncoder(Encoder):
    """An encoder compiled for one image and for `PART_SIZE` images, as which all other batches are seen.

    So nothing is compiled anew when the number of images changes, as it does when episodes end at different steps, and
    what comes out for an image does not depend on how many others there are. The weights are constants to the compiler,
    which lays them out once as processors' convolutions want them, not in every forward.

    Args:
        encoder: folded and without gradients.
    """

    PART_SIZE = 32  # caches matter: on processors larger batches are slower per image

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.trunk, encoder.pool, encoder.classifier)
        self.normalize = Normalize().to(encoder.classifier.weight.device)
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
        if len(images) in (1, self.PART_SIZE):
            return self._run(images, are_pixels)
        parts = [self._part(part, are_pixels) for part in images.split(self.PART_SIZE)]
        return Encoding(*(torch.cat(outputs) for outputs in zip(*parts, strict=True)))

    def _part(self, images: Tensor, are_pixels: bool) -> Encoding:
        missing = self.PART_SIZE - len(images)
        filled = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images
        features, pooled = self._run(filled, are_pixels)
        return Encoding(features[: len(images)], pooled[: len(images)])

    def _run(self, images: Tensor, are_pixels: bool) -> Encoding:
        with (
            inductor.patch(freezing=images.device.type == "cpu"),  # torch.compile's own options come too late for it
            dynamo.patch(recompile_limit=_MOST_VARIANTS),
        ):
            encoding: Encoding = self._compiled(images, are_pixels)
        return encoding


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
