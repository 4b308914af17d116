"""The loss of stages I and III."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from classifiers.networks.glance_focus import SequenceLogits


def sequence_loss(predictions: SequenceLogits, labels: Tensor, regularization: float) -> Tensor:
    """Mean over steps and samples of L_CE(p_t, y) + lambda L_CE(softmax(FC_t(e_t)), y), Eq. (6).

    Differs from the paper: FC_t is the encoder's own classifier, one for the glance and one shared by all focus steps,
    as in the authors' code; the paper defines one for each step.

    Args:
        predictions: logits of the head and of the encoders, each (T, B, K).
        labels: (B,) int64 in [0, K).
        regularization: lambda >= 0.

    Returns:
        Scalar.
    """
    steps = predictions.logits.shape[0]
    targets = labels.repeat(steps)
    loss = functional.cross_entropy(predictions.logits.flatten(0, 1), targets)
    if regularization > 0:
        loss = loss + regularization * functional.cross_entropy(predictions.encoder_logits.flatten(0, 1), targets)
    return loss
