"""Multiply-adds of a glimpse, counted on the network itself with torch's operator counter.

A multiply-add is one multiplication and one addition, as in the paper: half of a FLOP count. Convolutions and matrix
products count; normalizations, activations, pooling and shifts in time do not. A clip costs what its frames cost.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from classifiers.networks.encoders import Encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier


def count_multiply_adds(module: nn.Module, run: Callable[[], object]) -> int:
    """Counts the multiply-adds of a call.

    Args:
        module: put into evaluation mode during the call.
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


def glimpse_costs(classifier: GlanceFocusClassifier, size: int = -1) -> tuple[int, ...]:
    """Multiply-adds of each of the T steps for one image or clip: encoder and head, whatever its own size.

    A look with several scales costs the encoder on each of its crops.

    Resizing, of images or of feature maps, is not counted.

    Args:
        classifier: the networks.
        size: index of the patches' size in `ClassifierSpec.patch_sizes`, by default the largest.

    Returns:
        T costs, the glance's first.
    """
    spec = classifier.spec
    sides = spec.glance_side, spec.patch_sizes[size]
    small, patch = (classifier.local_encoder.blank((side, side)) for side in sides)
    if len(spec.scales) > 1:
        patch = torch.stack([patch] * len(spec.scales), dim=1)
    hidden = patch.new_zeros(1, classifier.hidden_size)
    glance = count_multiply_adds(classifier, lambda: classifier.glance(small))

    def focus(step: int) -> int:
        return count_multiply_adds(classifier, lambda: classifier.focus(patch, hidden, step))

    if not classifier.head.varies_by_step:
        return glance, *[focus(2)] * (spec.num_glimpses - 1)
    return glance, *(focus(step) for step in range(2, spec.num_glimpses + 1))


def encoder_cost(encoder: Encoder, image_size: tuple[int, int], *, with_classifier: bool) -> int:
    """Multiply-adds of an encoder on one image, or on all frames of one clip.

    Args:
        encoder: the network.
        image_size: (H, W) in pixels.
        with_classifier: whether its own classifier counts.

    Returns:
        Multiply-adds.
    """
    images = encoder.blank(image_size)

    def run() -> None:
        pooled = encoder(images).pooled
        if with_classifier:
            encoder.classifier(pooled)

    return count_multiply_adds(encoder, run)
