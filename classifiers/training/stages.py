"""What the initialization and stages I and III train, and their loss (Sections 3.3 and 3.4), all with `loop.fit`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from classifiers.data.source import Batch, ImageSource
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier, SequenceLogits
from classifiers.networks.glimpse import Policy, View
from classifiers.training.augmentation import augment
from classifiers.training.fit_spec import FitSpec
from classifiers.training.loop import fit
from classifiers.training.object_guide import KnownImages, ObjectGuide, SeenObjects


def train_full_resolution(
    network: FullResolutionNetwork,
    source: ImageSource,
    spec: FitSpec,
    class_weights: Tensor | None = None,
    **loop: Any,
) -> FullResolutionNetwork:
    """Trains an ordinary classification network in place, on images of their own size or resized (`network.size`).

    Args:
        network: the network.
        source: training images.
        spec: the training settings.
        class_weights: (K,) factors of the images' losses, by label; None: 1.
        **loop: see `fit`.

    Returns:
        The network that was passed.

    Raises:
        NonFiniteLossError: if the loss becomes NaN or infinite.
    """
    groups = [{"params": list(network.parameters()), "lr": spec.lr}]

    def loss_of(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        images = augment(batch.images, generator, **spec.augmentation).images
        return _cross_entropy(model(images), batch.labels, _of_labels(class_weights, batch.labels))

    fit(network, groups, loss_of, source, spec, **loop)
    return network


def train_sequences(
    classifier: GlanceFocusClassifier,
    policy: Policy | None,
    source: ImageSource,
    spec: FitSpec,
    guide: ObjectGuide | None = None,
    class_weights: Tensor | None = None,
    **loop: Any,
) -> GlanceFocusClassifier:
    """Stages I and III: trains f_G, f_L and f_C in place, on whole episodes with the loss of Eq. (6).

    Parts that `spec.frozen` names, and f_G if its learning rate is 0, stay as they are.

    Args:
        classifier: the networks.
        policy: the trained policy of stage III; None draws random patches, stage I.
        source: training images.
        spec: the training settings.
        guide: places `spec.object_share` of the random patches near objects, and says how probably an input shows one,
            see `sequence_loss`; None knows nothing of objects, as the paper.
        class_weights: see `train_full_resolution`.
        **loop: see `fit`.

    Returns:
        The classifier that was passed.

    Raises:
        NonFiniteLossError: if the loss becomes NaN or infinite.
    """
    global_lr = spec.lr if spec.global_lr is None else spec.global_lr
    rates = {"local_encoder": spec.lr, "head": spec.lr if spec.head_lr is None else spec.head_lr}
    if not classifier.spec.shares_encoder:
        rates["global_encoder"] = global_lr
    frozen = frozen_parts(classifier, spec)
    groups: list[dict[str, Any]] = [
        {"params": list(getattr(classifier, part).parameters()), "lr": lr}
        for part, lr in rates.items()
        if part not in frozen
    ]
    trained = [group for group in groups if group["lr"] > 0 and group["params"]]

    def loss_of(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        images, moves = augment(batch.images, generator, **spec.augmentation)
        if guide is None:
            predictions = model(images, policy or random_policy(generator), generator)
            return sequence_loss(predictions, batch.labels, spec.regularization, None, class_weights)
        known = KnownImages(batch.images, moves)
        places = policy or guide.random_policy(classifier.spec, spec.object_share, generator, known)
        followed = SeenObjects(guide, classifier.spec, places)
        predictions = model(images, followed, generator)
        return sequence_loss(predictions, batch.labels, spec.regularization, followed.probabilities(), class_weights)

    fit(classifier, trained, loss_of, source, spec, frozen=[getattr(classifier, part) for part in frozen], **loop)
    return classifier


def frozen_parts(classifier: GlanceFocusClassifier, spec: FitSpec) -> set[str]:
    """The parts of a classifier that stages I and III leave as they are, by their names."""
    global_lr = spec.lr if spec.global_lr is None else spec.global_lr
    keeps_global = global_lr == 0 and not classifier.spec.shares_encoder
    return {*spec.frozen, *(["global_encoder"] if keeps_global else [])}


def sequence_loss(
    predictions: SequenceLogits,
    labels: Tensor,
    regularization: float,
    seen: Tensor | None = None,
    class_weights: Tensor | None = None,
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
        class_weights: (K,) factors of the samples' losses, by label, not in the paper; None: 1.

    Returns:
        Scalar.
    """
    steps, _, classes = predictions.logits.shape
    if seen is None:
        targets = of_encoders = labels.repeat(steps)
    else:
        targets = _soft(labels, 1 - (1 - seen).cumprod(dim=0), classes)
        of_encoders = _soft(labels, seen, classes)
    weights = _of_labels(class_weights, labels.repeat(steps))
    loss = _cross_entropy(predictions.logits.flatten(0, 1), targets, weights)
    if regularization > 0:
        of_inputs = _cross_entropy(predictions.encoder_logits.flatten(0, 1), of_encoders, weights)
        loss = loss + regularization * of_inputs
    return loss


def balanced_class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weights with which all classes of a training set count alike, and its images 1 on average.

    Args:
        labels: (L,) int64, of the training images.
        num_classes: number K of classes.

    Returns:
        (K,) float32, L / (classes with images * images of the class); 0 where there are none.
    """
    counts = labels.bincount(minlength=num_classes)
    weights = len(labels) / (counts.count_nonzero() * counts.clamp(min=1))
    return torch.where(counts > 0, weights, torch.zeros_like(weights))


def _of_labels(class_weights: Tensor | None, labels: Tensor) -> Tensor | None:
    return None if class_weights is None else class_weights.to(labels.device)[labels]


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over samples, each times its weight (B,): not divided by a micro-batch's sum of weights."""
    if weights is None:
        return functional.cross_entropy(logits, targets)
    return (weights * functional.cross_entropy(logits, targets, reduction="none")).mean()


def _soft(labels: Tensor, weight: Tensor, classes: int) -> Tensor:
    """(T * B, K): the label with a weight (T, B), every class with an equal share of the rest."""
    one_hot = functional.one_hot(labels, classes)  # (B, K)
    return (weight[..., None] * one_hot + (1 - weight[..., None]) / classes).flatten(0, 1)


def random_policy(generator: torch.Generator) -> Policy:
    """Uniformly random locations (stage I, Section 3.3).

    Args:
        generator: where the random numbers come from, on the CPU.

    Returns:
        A policy without memory.
    """

    def locate(view: View, state: None) -> tuple[Tensor, None]:
        return torch.rand(len(view.step), 2, generator=generator).to(view.locations.device), state

    return locate
