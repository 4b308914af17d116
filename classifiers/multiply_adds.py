"""What a look costs, counted on the network itself by torch's own operator counter, not tabled.

A multiply-add is one multiplication and one addition, as in the paper: half of a FLOP count. Convolutions and matrix
products count; normalisations, activations and pooling do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from classifiers.encoders import Encoder
from classifiers.glance_focus import GlanceFocusClassifier


class GlimpseCosts(NamedTuple):
    """Multiply-adds of one image's first and later steps, policy not included.

    Attributes:
        glance: f_G on the resized image and the head.
        focus: f_L on a patch and the head.
    """

    glance: int
    focus: int


def count_multiply_adds(module: nn.Module, run: Callable[[], object]) -> int:
    """Counts the multiply-adds of a call.

    Args:
        module: put into evaluation mode meanwhile.
        run: the call to count, on a batch of one.

    Returns:
        Multiply-adds.
    """
    was_training = module.training
    module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    module.train(was_training)
    return int(counter.get_total_flops()) // 2


def glimpse_costs(classifier: GlanceFocusClassifier) -> GlimpseCosts:
    """Multiply-adds of a glance and of a focus step for one image, independent of the image's own size.

    Args:
        classifier: the networks.

    Returns:
        The two costs; a cascade's focus step is counted at its last, dearest classifier.
    """
    side = classifier.spec.patch_size
    inputs = _zeros(classifier, (side, side))
    hidden = inputs.new_zeros(1, classifier.hidden_size)
    if classifier.spec.head == "cascade":
        hidden[:, -1] = classifier.spec.num_glimpses - 1
    return GlimpseCosts(
        glance=count_multiply_adds(classifier, lambda: classifier.glance(inputs)),
        focus=count_multiply_adds(classifier, lambda: classifier.focus(inputs, hidden)),
    )


def encoder_cost(encoder: Encoder, image_size: tuple[int, int], *, with_classifier: bool) -> int:
    """Multiply-adds of an encoder on one image.

    Args:
        encoder: the network.
        image_size: (H, W) in pixels.
        with_classifier: whether its own classifier counts.

    Returns:
        Multiply-adds.
    """
    images = _zeros(encoder, image_size)

    def run() -> None:
        pooled = encoder(images).pooled
        if with_classifier:
            encoder.classifier(pooled)

    return count_multiply_adds(encoder, run)


def _zeros(module: nn.Module, size: tuple[int, int]) -> Tensor:
    return torch.zeros(1, 3, *size, device=next(module.parameters()).device)
