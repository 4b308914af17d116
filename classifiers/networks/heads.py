"""The classifier f_C: three interchangeable ways to combine everything seen so far (Section 3.2, Appendix A.1).

A head keeps nothing inside. Its hidden state is an explicit (B, F_h) float32 tensor, zero before the glance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class WideLinear(nn.Linear):
    """A linear layer with far more weights than inputs, such as the first layer of pi in A.1 (38 million weights).

    The weights are the left factor of the product, so that they are read once, in memory order. On CPUs this takes
    about two thirds of the time.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        return torch.addmm(self.bias[:, None], self.weight, inputs.T).T


class Head(nn.Module):
    """What every head offers.

    Attributes:
        hidden_size: length F_h of the hidden state.
        most_glimpses: longest sequence it can take, the glance included; None if there is no limit.
        varies_by_step: whether different steps use different weights.
    """

    hidden_size: int
    most_glimpses: int | None = None
    varies_by_step: bool = False

    def reads_encoder_logits(self, *, is_first: bool) -> bool:
        """Whether a step's prediction is made from the encoder's own logits, which `forward` then needs.

        Args:
            is_first: whether this is the glance.
        """
        raise TypeError("Head is a base class; build one of HEADS instead")

    def forward(
        self, pooled: Tensor, encoder_logits: Tensor | None, hidden: Tensor, step: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step of Eq. (1), before the softmax.

        Args:
            pooled: (B, F) pooled feature vectors of this step's input.
            encoder_logits: (B, K) the encoder's own logits; None where the head does not read them.
            hidden: (B, F_h) hidden state after the previous step; zeros at the first.
            step: this step, 1 to T, where it is known to be the same for all rows, so that no control flow depends on
                data; None reads it from the hidden state. The result is the same.

        Returns:
            logits (B, K) and the new hidden state (B, F_h).
        """
        raise TypeError("Head is a base class; build one of HEADS instead")


class GRUHead(Head):
    """A gated recurrent unit and a linear classifier (Appendix A.1: ResNets, DenseNets, RegNets).

    Its first prediction is its own, or in evaluation the encoder's (`glance_logits="encoder"`: the published RegNets).
    """

    def __init__(
        self, pooled_size: int, num_classes: int, num_glimpses: int, hidden_size: int, glance_logits: str = "head"
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self._glance_logits = glance_logits
        self.cell = nn.GRUCell(pooled_size, hidden_size)
        self.classifier = nn.Linear(hidden_size, num_classes)

    def reads_encoder_logits(self, *, is_first: bool) -> bool:
        """Only at the glance in evaluation, if asked for."""
        return is_first and self._glance_logits == "encoder" and not self.training

    def forward(
        self, pooled: Tensor, encoder_logits: Tensor | None, hidden: Tensor, step: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step of the GRU, as `Head.forward`."""
        hidden = self.cell(pooled, hidden)
        return self.classifier(hidden) if encoder_logits is None else encoder_logits, hidden


class CascadeHead(Head):
    """T linear classifiers on the concatenation of all vectors so far (Appendix A.1: MobileNets-V3, EfficientNets).

    The hidden state holds T vectors, zeros where nothing was seen yet, and the number of steps taken.

    Differs from the paper: step 1 uses the global encoder's own classifier, as the authors' code does.
    """

    varies_by_step = True

    def __init__(
        self, pooled_size: int, num_classes: int, num_glimpses: int, hidden_size: int, glance_logits: str = "head"
    ) -> None:
        super().__init__()
        self.most_glimpses = num_glimpses
        self.pooled_size, self.num_classes = pooled_size, num_classes
        self.hidden_size = pooled_size * num_glimpses + 1
        self.classifiers = nn.ModuleList(WideLinear(t * pooled_size, num_classes) for t in range(2, num_glimpses + 1))

    def reads_encoder_logits(self, *, is_first: bool) -> bool:
        """At the glance."""
        return is_first

    def forward(
        self, pooled: Tensor, encoder_logits: Tensor | None, hidden: Tensor, step: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `Head.forward`; rows may be at different steps, but not some at the first and others past it."""
        taken = hidden[:, -1].long()  # (B,) steps before this one
        if step is not None:
            taken = torch.full_like(taken, step - 1)
        slots = hidden[:, :-1].unflatten(1, (-1, self.pooled_size))  # (B, T, F)
        is_now = torch.arange(slots.shape[1], device=hidden.device) == taken[:, None]  # (B, T)
        seen = torch.where(is_now[..., None], pooled[:, None], slots).flatten(1)  # (B, T * F)
        if encoder_logits is not None:
            logits = encoder_logits
        elif step is not None:
            logits = self._classify(seen, step)
        else:
            logits = pooled.new_zeros(len(pooled), self.num_classes)
            for before in taken.unique().tolist():
                logits = torch.where((taken == before)[:, None], self._classify(seen, before + 1), logits)
        return logits, torch.cat([seen, taken[:, None].to(hidden.dtype) + 1], dim=1)

    def _classify(self, seen: Tensor, step: int) -> Tensor:
        logits: Tensor = self.classifiers[step - 2](seen[:, : step * self.pooled_size])
        return logits


class AverageHead(Head):
    """The running mean of the encoders' own logits: no parameters, so any pretrained network needs no stage I.

    The hidden state holds the sum of the logits so far and their number. Not in the paper.
    """

    def __init__(
        self, pooled_size: int, num_classes: int, num_glimpses: int, hidden_size: int, glance_logits: str = "head"
    ) -> None:
        super().__init__()
        self.hidden_size = num_classes + 1

    def reads_encoder_logits(self, *, is_first: bool) -> bool:
        """Always."""
        return True

    def forward(
        self, pooled: Tensor, encoder_logits: Tensor | None, hidden: Tensor, step: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """One step of the mean, as `Head.forward`."""
        assert encoder_logits is not None
        total, count = hidden[:, :-1] + encoder_logits, hidden[:, -1:] + 1
        return total / count, torch.cat([total, count], dim=1)


HEADS: dict[str, Callable[[int, int, int, int, str], Head]] = {
    "gru": GRUHead,
    "cascade": CascadeHead,
    "average": AverageHead,
}
"""Builders by name: `HEADS[name](pooled_size, num_classes, num_glimpses, hidden_size, glance_logits)`."""
