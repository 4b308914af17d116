"""The classifier for inference: without gradients and training-time parts, and faster."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from classifiers.inference.compiled import CompiledEncoder
from classifiers.networks.encoders import Encoder
from classifiers.networks.folding import fold_batch_norms
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import Glimpse


class FrozenClassifier(GlanceFocusClassifier):
    """A copy of a classifier for inference only; its outputs agree with the original's to 1e-4.

    Batch normalizations are folded into the convolutions before them, and weights are stored channels-last. The
    original is unchanged and shares nothing with the copy.

    Args:
        classifier: the networks.
        compile: also compile the encoders with `torch.compile` (20 to 60 s once, at the first batch).
        keep_original: whether `original` keeps the networks, for training them further, and their memory.
    """

    def __init__(
        self, classifier: GlanceFocusClassifier, *, compile: bool = False, keep_original: bool = False
    ) -> None:
        nn.Module.__init__(self)
        self.__dict__["_original"] = classifier if keep_original else None  # no submodule
        self.is_compiled = compile
        local_encoder = _fast(classifier.local_encoder, compile)
        is_one = classifier.global_encoder is classifier.local_encoder
        global_encoder = local_encoder if is_one else _fast(classifier.global_encoder, compile)
        self._assemble(classifier.spec, global_encoder, local_encoder, copy.deepcopy(classifier.head))
        self.eval().requires_grad_(False)

    @property
    def original(self) -> GlanceFocusClassifier | None:
        """The networks that this is a copy of, where they were kept."""
        kept: GlanceFocusClassifier | None = self.__dict__["_original"]
        return kept

    @torch.inference_mode()
    def glance(self, images: Tensor, location: Tensor | None = None) -> Glimpse:
        """As `GlanceFocusClassifier.glance`, without gradients."""
        return super().glance(images, location)

    @torch.inference_mode()
    def focus(self, patches: Tensor, hidden: Tensor, step: int | None = None) -> Glimpse:
        """As `GlanceFocusClassifier.focus`, without gradients."""
        return super().focus(patches, hidden, step)

    look = torch.inference_mode()(GlanceFocusClassifier.look)

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


def frozen(
    classifier: GlanceFocusClassifier, *, compile: bool = False, keep_original: bool = False
) -> FrozenClassifier:
    """A copy of a classifier for inference.

    Args:
        classifier: the networks.
        compile: see `FrozenClassifier`.
        keep_original: see `FrozenClassifier`.

    Returns:
        The copy, in evaluation mode on the same device; the classifier itself if it is frozen, and compiled if asked.
    """
    if isinstance(classifier, FrozenClassifier) and (classifier.is_compiled or not compile):
        return classifier
    return FrozenClassifier(classifier, compile=compile, keep_original=keep_original)


def _fast(encoder: Encoder, compile: bool) -> Encoder:
    pool, classifier = copy.deepcopy(encoder.pool).eval(), copy.deepcopy(encoder.classifier)
    trunk = fold_batch_norms(encoder.trunk).to(memory_format=torch.channels_last)
    fast = Encoder(trunk, pool, classifier, encoder.preprocessing, encoder.num_frames)
    fast.eval().requires_grad_(False).to(classifier.weight.device)
    return CompiledEncoder(fast) if compile else fast
