"""What a look costs, counted on the network itself by torch's own operator counter, not tabled.

A multiply-add is one multiplication and one addition, as in the paper: half of a FLOP count. Convolutions and matrix
products count; normalisations, activations and pooling do not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from classifiers.networks.encoders import Encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier


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


def glimpse_costs(classifier: GlanceFocusClassifier) -> tuple[int, ...]:
    """Multiply-adds of each of the T steps for one image: encoder and head, whatever the image's own size.

    Resizing, of images or of feature maps, is not counted.

    Args:
        classifier: the networks.

    Returns:
        T costs, the glance's first; only a cascade's later ones differ from one another.
    """
    spec = classifier.spec
    steps = spec.num_glimpses
    small, patch = (_zeros(classifier, (side, side)) for side in (spec.glance_side, spec.patch_size))
    hidden = patch.new_zeros(1, classifier.hidden_size)
    costs = [count_multiply_adds(classifier, lambda: classifier.glance(small))]
    for step in range(1, steps if spec.head == "cascade" else 2):
        hidden[:, -1] = step  # where a cascade counts; no other head's cost depends on what it holds
        costs.append(count_multiply_adds(classifier, lambda: classifier.focus(patch, hidden)))
    return (*costs, *[costs[-1]] * (steps - len(costs)))


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
