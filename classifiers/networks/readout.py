"""What a prediction says: the one place where logits become probabilities."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Readout(NamedTuple):
    """A softmax prediction, summed up.

    Attributes:
        prediction: (B,) int64, the most probable class.
        confidence: (B,) float32 in (0, 1], its probability.
        entropy: (B,) float32 at least 0, of the whole distribution, in nats.
        label_probability: (B,) float32 in [0, 1], the true label's; None where no labels were given.
    """

    prediction: Tensor
    confidence: Tensor
    entropy: Tensor
    label_probability: Tensor | None


def read_out(logits: Tensor, labels: Tensor | None = None) -> Readout:
    """Sums up the predictions that logits stand for.

    Args:
        logits: (B, K), before the softmax.
        labels: (B,) int64 true labels on any device; None where they are not known.

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
