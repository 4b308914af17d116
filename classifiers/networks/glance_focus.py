"""GFNet without its policy: two encoders and a head that glance at an image and focus on patches (Section 3.2)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from classifiers.networks.encoders import Encoder, Encoding, build_encoder
from classifiers.networks.geometry import crop, resize, top_left_px
from classifiers.networks.heads import HEADS
from classifiers.networks.preprocessing import Normalize
from classifiers.networks.spec import ClassifierSpec


class Glimpse(NamedTuple):
    """What the classifier makes of one input, the glance or a patch.

    Attributes:
        features: (B, C, h, w) feature maps e_t, of one size whatever the input's.
        hidden: (B, F_h) hidden state h^C_t: the sum of all that was seen.
        logits: (B, K) prediction before the softmax.
        pooled: (B, F) pooled feature vectors of this input alone.
    """

    features: Tensor
    hidden: Tensor
    logits: Tensor
    pooled: Tensor


Locator = Callable[[Glimpse, Any], tuple[Tensor, Any]]
"""A policy as the classifier sees it: `(glimpse, state) -> (location, state)`, location (B, 2) in [0, 1]; the state is
the policy's own, None before the first call."""


class SequenceLogits(NamedTuple):
    """Predictions along a whole episode.

    Attributes:
        logits: (T, B, K) of the head, before the softmax.
        encoder_logits: (T, B, K) of the encoders' own classifiers, FC_t of Eq. (6).
    """

    logits: Tensor
    encoder_logits: Tensor


class GlanceFocusClassifier(nn.Module):
    """f_G, f_L and f_C of Section 3.2. Nothing is kept inside: the hidden state goes in and comes out.

    Images and patches are (B, 3, H, W): uint8 pixels in [0, 255] are normalised here, floating-point ones are taken as
    already normalised. Images may have any height and width of at least `spec.largest_side`.

    Glance and patches may be of two sizes: the encoders are convolutional and pool globally. The smaller one's feature
    maps are then resized to the larger's, bilinearly with aligned corners, so that a policy reads all alike.

    Differs from the paper: Section 4.2 upsamples inside pi, after its convolution; here any policy will do, at the cost
    of a convolution over the larger maps.

    Args:
        spec: its shape.
        num_classes: number K of classes, 2 or more.

    Raises:
        ValueError: if there are fewer than two classes.
    """

    def __init__(self, spec: ClassifierSpec, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}; pass 2 or more")
        self.spec = spec
        self.num_classes = num_classes
        self.normalize = Normalize()
        self.global_encoder = build_encoder(spec.encoder, num_classes)
        self.local_encoder = self.global_encoder
        if not spec.shares_encoder:
            self.local_encoder = build_encoder(spec.encoder, num_classes)
        self.head = HEADS[spec.head](self.global_encoder.pooled_size, num_classes, spec.num_glimpses, spec.hidden_size)
        self._feature_shape = self._measure()

    @property
    def hidden_size(self) -> int:
        """Length F_h of the hidden state."""
        return self.head.hidden_size

    def feature_shape(self) -> tuple[int, int, int]:
        """Shape (C, h, w) of the feature maps of one glance or patch."""
        return self._feature_shape

    def at_sizes(self, *, patch_size: int | None = None, glance_size: int | None = None) -> Self:
        """The same networks for other sizes; all weights are shared, none copied.

        What they were not trained at, they see less well; stage III adapts them.

        Args:
            patch_size: side of the patches in pixels; None leaves it.
            glance_size: side of the glance in pixels; None leaves it, at the patch's if it has none of its own.

        Returns:
            The twin; itself if nothing changes.

        Raises:
            ValueError: if a side is below `LEAST_SIDE`.
        """
        spec = dataclasses.replace(
            self.spec,
            patch_size=self.spec.patch_size if patch_size is None else patch_size,
            glance_size=self.spec.glance_size if glance_size is None else glance_size,
        )
        if spec == self.spec:
            return self
        twin = copy.copy(self)
        twin.spec = spec
        twin._feature_shape = twin._measure()
        return twin

    def first_input(self, images: Tensor) -> Tensor:
        """What the first step sees: the whole image made small, or its centre.

        Args:
            images: (B, 3, H, W), uint8 or float.

        Returns:
            (B, 3, G, G) float in the range of `images`, G being `spec.glance_side`.
        """
        side = self.spec.glance_side
        if self.spec.first_look == "centre":
            centre = images.new_full((len(images), 2), 0.5, dtype=torch.float32)
            images = crop(images, top_left_px(centre, (images.shape[2], images.shape[3]), side), side)
        return resize(images, (side, side), self.spec.resize_mode)

    def glance(self, images: Tensor) -> Glimpse:
        """Looks at whole images at low resolution, the first step.

        Args:
            images: (B, 3, H, W), uint8 pixels or normalised floats.

        Returns:
            The first glimpse.
        """
        small = self.first_input(images)
        hidden = small.new_zeros(len(images), self.hidden_size)
        reads = self.head.reads_encoder_logits in ("glance", "always")
        glimpse = self._glimpse(self.global_encoder, small, images.dtype == torch.uint8, hidden, reads)
        if self.spec.glance_logits == "encoder" and not self.training:
            return glimpse._replace(logits=self.global_encoder.classifier(glimpse.pooled))
        return glimpse

    def focus(self, patches: Tensor, hidden: Tensor) -> Glimpse:
        """Looks at one patch of each image, a later step.

        Args:
            patches: (B, 3, P, P), uint8 pixels or normalised floats.
            hidden: (B, F_h) of the glimpse before.

        Returns:
            The next glimpse.
        """
        reads = self.head.reads_encoder_logits == "always"
        return self._glimpse(self.local_encoder, patches, patches.dtype == torch.uint8, hidden, reads)

    def forward(self, images: Tensor, locator: Locator) -> SequenceLogits:
        """A whole episode of T steps, differentiable in the encoders and the head, not in the locations.

        Args:
            images: (B, 3, H, W), uint8 pixels or normalised floats.
            locator: where to look next.

        Returns:
            The predictions of all T steps.
        """
        glimpse, state = self.glance(images), None
        logits, encoder_logits = [glimpse.logits], [self.global_encoder.classifier(glimpse.pooled)]
        for _ in range(self.spec.num_glimpses - 1):
            location, state = locator(glimpse, state)
            top_left = top_left_px(location, (images.shape[2], images.shape[3]), self.spec.patch_size)
            glimpse = self.focus(crop(images, top_left, self.spec.patch_size), glimpse.hidden)
            logits.append(glimpse.logits)
            encoder_logits.append(self.local_encoder.classifier(glimpse.pooled))
        return SequenceLogits(torch.stack(logits), torch.stack(encoder_logits))

    def _glimpse(
        self, encoder: Encoder, inputs: Tensor, are_pixels: bool, hidden: Tensor, reads_encoder_logits: bool
    ) -> Glimpse:
        features, pooled = self._encode(encoder, inputs, are_pixels)
        encoder_logits = encoder.classifier(pooled) if reads_encoder_logits else None
        logits, hidden = self.head(pooled, encoder_logits, hidden)
        if features.shape[1:] != self._feature_shape:
            features = functional.interpolate(features, self._feature_shape[1:], mode="bilinear", align_corners=True)
        return Glimpse(features, hidden, logits, pooled)

    def _encode(self, encoder: Encoder, inputs: Tensor, are_pixels: bool) -> Encoding:
        encoding: Encoding = encoder(self.normalize(inputs) if are_pixels else inputs)
        return encoding

    @torch.no_grad()
    def _measure(self) -> tuple[int, int, int]:
        """Shape of the larger input's feature maps."""
        was_training, side = self.training, self.spec.largest_side
        image = torch.zeros(1, 3, side, side, device=self.normalize.scale.device)
        channels, height, width = self.eval().global_encoder(image).features.shape[1:]
        self.train(was_training)
        return channels, height, width
