"""The classifier for inference: without gradients and training-time parts, and faster."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from classifiers.inference.compiled import CompiledEncoder
from classifiers.inference.fold_batch_norms import fold_batch_norms
from classifiers.inference.small_maps import batch_small_maps
from classifiers.networks.encoders import Encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import Glimpse


class FrozenClassifier(GlanceFocusClassifier):
    """A copy of a classifier for inference only; its outputs agree with the original's to 1e-4.

    Batch normalisations are folded into the convolutions before them, and weights are stored channels-last. The
    original is unchanged and shares nothing with the copy.

    Args:
        classifier: the networks.
        compile: also compile the encoders with `torch.compile` (20 to 60 s once, at the first batch).
        small_maps: also compute the small feature maps of a batch as one, see `classifiers.inference.small_maps`;
            faster for ResNets on CPUs.
    """

    def __init__(self, classifier: GlanceFocusClassifier, *, compile: bool = False, small_maps: bool = False) -> None:
        nn.Module.__init__(self)
        self.is_compiled, self.has_small_maps = compile, small_maps
        local_encoder = _fast(classifier.local_encoder, compile, small_maps)
        is_one = classifier.global_encoder is classifier.local_encoder
        global_encoder = local_encoder if is_one else _fast(classifier.global_encoder, compile, small_maps)
        self._assemble(classifier.spec, global_encoder, local_encoder, copy.deepcopy(classifier.head))
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def glance(self, images: Tensor, location: Tensor | None = None) -> Glimpse:
        """See `GlanceFocusClassifier.glance`."""
        return super().glance(images, location)

    @torch.inference_mode()
    def focus(self, patches: Tensor, hidden: Tensor, step: int | None = None) -> Glimpse:
        """See `GlanceFocusClassifier.focus`."""
        return super().focus(patches, hidden, step)

    def _give_finer_maps(self, before: int | None) -> None:
        if self.is_compiled:
            raise ValueError(
                f"feature_stride={self.spec.feature_stride}, but these networks are compiled; change it before "
                "`frozen(..., compile=True)`"
            )
        super()._give_finer_maps(before)

    def train(self, mode: bool = True) -> FrozenClassifier:
        """Has no effect: the classifier stays in evaluation mode."""
        super().train(False)
        return self


def frozen(classifier: GlanceFocusClassifier, *, compile: bool = False, small_maps: bool = False) -> FrozenClassifier:
    """A copy for inference; see `FrozenClassifier` for the arguments.

    Returns:
        The copy, in evaluation mode on the same device; the classifier itself if it has these passes already.
    """
    passes = {"compile": compile, "small_maps": small_maps}
    if isinstance(classifier, FrozenClassifier):
        had = {"compile": classifier.is_compiled, "small_maps": classifier.has_small_maps}
        passes = {name: wanted or had[name] for name, wanted in passes.items()}
        if passes == had:
            return classifier
    return FrozenClassifier(classifier, **passes)


def _fast(encoder: Encoder, compile: bool, small_maps: bool) -> Encoder:
    pool, classifier = copy.deepcopy(encoder.pool).eval(), copy.deepcopy(encoder.classifier)
    trunk = fold_batch_norms(encoder.trunk).to(memory_format=torch.channels_last)
    if small_maps:
        trunk = batch_small_maps(trunk)
    fast = Encoder(trunk, pool, classifier, encoder.preprocessing, encoder.num_frames)
    fast.eval().requires_grad_(False).to(classifier.weight.device)
    return CompiledEncoder(fast) if compile else fast
