"""From logits to prediction, confidence and entropy; the only softmax over classes outside the losses."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


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


def read_out(logits: Tensor, labels: Tensor | None = None) -> Readout:
    """Computes the softmax of logits and summarises it.

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
