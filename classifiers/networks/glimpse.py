"""What classifier and policy exchange: a glimpse in one direction, the next location in the other; and what a
glimpse's logits say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from classifiers.networks.spec import ClassifierSpec


class Glimpse(NamedTuple):
    """The classifier's outputs for one input, the glance or a patch.

    Attributes:
        features: (B, C, h, w) feature maps e_t, of one size for inputs of any size.
        hidden: (B, F_h) hidden state h^C_t, which summarizes all inputs so far.
        logits: (B, K) prediction before the softmax.
        pooled: (B, F) pooled feature vectors of this input alone.
    """

    features: Tensor
    hidden: Tensor
    logits: Tensor
    pooled: Tensor


class Readout(NamedTuple):
    """Summary of a softmax prediction.

    Attributes:
        prediction: (B,) int64, the most probable class.
        confidence: (B,) float32 in (0, 1], its probability.
        entropy: (B,) float32 at least 0, of the whole distribution, in nats.
        label_probability: (B,) float32 in [0, 1], of the true label; None without labels.
    """

    prediction: Tensor
    confidence: Tensor
    entropy: Tensor
    label_probability: Tensor | None


def summarize_logits(logits: Tensor, labels: Tensor | None = None) -> Readout:
    """Computes the softmax of logits and summarizes it.

    Args:
        logits: (B, K), before the softmax.
        labels: (B,) int64 true labels on any device; None where they are unknown.

    Returns:
        Tensors on the logits' device.
    """
    log_probabilities = logits.float().log_softmax(dim=1)  # (B, K)
    probabilities = log_probabilities.exp()
    confidence, prediction = probabilities.max(dim=1)
    entropy = -(probabilities * log_probabilities).sum(dim=1)
    label_probability = None
    if labels is not None:
        label_probability = probabilities.gather(1, labels.to(logits.device)[:, None])[:, 0]
    return Readout(prediction, confidence, entropy, label_probability)


class View(NamedTuple):
    """Everything a policy may read before it decides.

    Attributes:
        glimpse: the last one.
        glance: (B, C, h, w) feature maps of the first one.
        locations: (B, T - 1, 2) in [0, 1], (row, col), of the looks since the first, then zeros.
        step: (B,) int64, number of glimpses so far, the glance included: 1 to T.
        images: (B, 3, H, W) the images themselves, for the oracle, and for policies that read the pixels of what was
            looked at; None in recognition without such a policy.
        labels: (B,) int64 true labels, for the oracle only; None where they are unknown.
        first_location: (B, 2) in [0, 1], where the first look was if it was a patch; None if it was a glance.
        last_size: (B, K) one-hot of the last patch's size, zeros after the first look; None if patches have one size.
        next_size: (B, K) one-hot of the size of the patch to place; zeros where the policy chooses it or none is to
            come; None if patches have one size.
        boxes: (B, N, 4) int64, see `classifiers.data.source.Batch.boxes`, for the reference policy only; None where
            they are unknown.
        spec: of the classifier, which says what sides and resizing the pixels have; None where no policy reads them.
    """

    glimpse: Glimpse
    glance: Tensor
    locations: Tensor
    step: Tensor
    images: Tensor | None = None
    labels: Tensor | None = None
    first_location: Tensor | None = None
    last_size: Tensor | None = None
    next_size: Tensor | None = None
    boxes: Tensor | None = None
    spec: ClassifierSpec | None = None

    @classmethod
    def first(
        cls,
        glimpse: Glimpse,
        images: Tensor,
        num_glimpses: int,
        labels: Tensor | None = None,
        location: Tensor | None = None,
        num_sizes: int = 1,
        boxes: Tensor | None = None,
        spec: ClassifierSpec | None = None,
    ) -> View:
        """The view after the first step.

        Args:
            glimpse: of the glance, or of the patch in its place.
            images: (B, 3, H, W) the images.
            num_glimpses: longest sequence T, the first step included.
            labels: (B,) int64 true labels, where they are known.
            location: (B, 2) in [0, 1], where that patch was; None for a glance.
            num_sizes: K patch sizes.
            boxes: (B, N, 4) boxes of what decides the label, where they are known.
            spec: of the classifier.

        Returns:
            A view without locations; the next size is not set yet.
        """
        count, device = len(glimpse.logits), glimpse.logits.device
        locations = glimpse.logits.new_zeros(count, num_glimpses - 1, 2)
        step = torch.ones(count, dtype=torch.int64, device=device)
        size = glimpse.logits.new_zeros(count, num_sizes) if num_sizes > 1 else None
        return cls(glimpse, glimpse.features, locations, step, images, labels, location, size, size, boxes, spec)

    def with_next_size(self, size: int) -> View:
        """The view of a policy that is to place patches of a size.

        Args:
            size: its index among the K sizes.

        Returns:
            A new view; this one if patches have one size.
        """
        if self.next_size is None:
            return self
        chosen = torch.zeros_like(self.next_size)
        chosen[:, size] = 1.0
        return self._replace(next_size=chosen)

    def after(self, location: Tensor, glimpse: Glimpse) -> View:
        """The view after one more look at each image, at patches of the next size.

        Args:
            location: (B, 2) in [0, 1], of the patches.
            glimpse: of the patches.

        Returns:
            A new view; this one stays as it is.
        """
        locations = self.locations.clone()
        rows = torch.arange(len(locations), device=locations.device)
        locations[rows, self.step - 1] = location.to(locations)
        return self._replace(glimpse=glimpse, locations=locations, step=self.step + 1, last_size=self.next_size)


Policy = Callable[[View, Any], tuple[Tensor, Any]]
"""A policy, `policy(view, state) -> (location, state)`. The location is (B, 2) in [0, 1], (row, col); the
state is the policy's own memory, None at the first call of an episode."""
