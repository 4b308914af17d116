"""What stages I and III and the initialisation train (Sections 3.3 and 3.4), each by the one loop of `loop.fit`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from classifiers.data.source import Batch, ImageSource
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import Policy, View
from classifiers.training.fit_spec import FitSpec
from classifiers.training.loop import fit
from classifiers.training.losses import sequence_loss


def train_full_resolution(
    network: FullResolutionNetwork, source: ImageSource, spec: FitSpec, **loop: Any
) -> FullResolutionNetwork:
    """Trains an ordinary classification network, at the images' own size or resized (`network.size`), in place.

    Args:
        network: the network.
        source: training images.
        spec: how long and how fast.
        **loop: see `fit`.

    Returns:
        The network.

    Raises:
        NotANumberError: if the loss stops being a number.
    """
    groups = [{"params": list(network.parameters()), "lr": spec.lr}]

    def loss_of(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        return functional.cross_entropy(model(batch.images), batch.labels)

    fit(network, groups, loss_of, source, spec, **loop)
    return network


def train_sequences(
    classifier: GlanceFocusClassifier, policy: Policy | None, source: ImageSource, spec: FitSpec, **loop: Any
) -> GlanceFocusClassifier:
    """Stages I and III: trains f_G, f_L and f_C along whole episodes with Eq. (6), in place.

    Args:
        classifier: the networks.
        policy: the fixed policy of stage III; None crops at random, stage I.
        source: training images.
        spec: how long and how fast.
        **loop: see `fit`.

    Returns:
        The classifier.

    Raises:
        NotANumberError: if the loss stops being a number.
    """
    global_lr = spec.lr if spec.global_lr is None else spec.global_lr
    groups: list[dict[str, Any]] = [
        {"params": list(classifier.local_encoder.parameters()), "lr": spec.lr},
        {"params": list(classifier.head.parameters()), "lr": spec.lr if spec.head_lr is None else spec.head_lr},
    ]
    if not classifier.spec.shares_encoder:
        groups.append({"params": list(classifier.global_encoder.parameters()), "lr": global_lr})
    trained = [group for group in groups if group["lr"] > 0 and group["params"]]

    def loss_of(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        predictions = model(batch.images, policy or random_policy(generator), generator)
        return sequence_loss(predictions, batch.labels, spec.regularization)

    fixed = classifier.global_encoder if global_lr == 0 and not classifier.spec.shares_encoder else None
    fit(classifier, trained, loss_of, source, spec, fixed=fixed, **loop)
    return classifier


def random_policy(generator: torch.Generator) -> Policy:
    """Locations drawn uniformly over the image (stage I, Section 3.3).

    Args:
        generator: source of all randomness, on the CPU.

    Returns:
        A policy without memory.
    """

    def locate(view: View, state: None) -> tuple[Tensor, None]:
        return torch.rand(len(view.step), 2, generator=generator).to(view.locations.device), state

    return locate
