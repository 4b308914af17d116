"""The classifier as the environment uses it: without gradients and training-time parts, and fast."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor

from classifiers.inference.compiled import CompiledEncoder
from classifiers.inference.fold_batch_norms import fold_batch_norms
from classifiers.inference.small_maps import compute_small_maps_together
from classifiers.networks.encoders import Encoder, Encoding
from classifiers.networks.glance_focus import GlanceFocusClassifier, Glimpse


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
