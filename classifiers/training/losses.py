"""The loss of stages I and III."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from classifiers.networks.glance_focus import SequenceLogits


def sequence_loss(
    predictions: SequenceLogits, labels: Tensor, regularization: float, seen: Tensor | None = None
) -> Tensor:
    """Mean over steps and samples of L_CE(p_t, y) + lambda L_CE(softmax(FC_t(e_t)), y), Eq. (6).

    Differs from the paper: FC_t is the encoder's own classifier, one for the glance and one shared by all focus steps,
    as in the authors' code; the paper defines one for each step.

    Args:
        predictions: logits of the head and of the encoders, each (T, B, K).
        labels: (B,) int64 in [0, K).
        regularization: lambda >= 0.
        seen: (T, B) in [0, 1], how probably each input shows the object. The target is then the label with the
            probability that any input so far (for FC_t: this input) shows the object, else any class, so that what
            shows no object is not learnt by heart. Not in the paper. None: each input shows it.

    Returns:
        Scalar.
    """
    steps, _, classes = predictions.logits.shape
    if seen is None:
        targets = of_encoders = labels.repeat(steps)
    else:
        targets = _soft(labels, 1 - (1 - seen).cumprod(dim=0), classes)
        of_encoders = _soft(labels, seen, classes)
    loss = functional.cross_entropy(predictions.logits.flatten(0, 1), targets)
    if regularization > 0:
        loss = loss + regularization * functional.cross_entropy(predictions.encoder_logits.flatten(0, 1), of_encoders)
    return loss


def _soft(labels: Tensor, weight: Tensor, classes: int) -> Tensor:
    """(T * B, K): the label with a weight (T, B), every class with an equal share of the rest."""
    one_hot = functional.one_hot(labels, classes)  # (B, K)
    return (weight[..., None] * one_hot + (1 - weight[..., None]) / classes).flatten(0, 1)
