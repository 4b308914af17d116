"""Fixed-length episodes on held-out images, and their record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.evaluation.record import EvaluationRecord
from agents.policies.adapters import AnyPolicy, as_location_policy
from agents.policies.protocol import LocationPolicy
from classifiers.data.source import Batch, ImageSource
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import summarize_logits
from classifiers.networks.size_histories import size_histories


@torch.inference_mode()
def evaluate(
    classifier: FrozenClassifier,
    source: ImageSource,
    policy: AnyPolicy,
    *,
    num_steps: int | None = None,
    max_images: int | None = None,
    batch_size: int = 250,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationRecord:
    """Runs a policy on every image of a source, in all ways to choose the sizes of patches.

    Args:
        classifier: the frozen networks; an episode has `spec.num_glimpses` steps.
        source: the images.
        policy: where to look: a `LocationPolicy`, a model of Stable-Baselines3, or a callable from observations to
            actions (see `agents.policies.adapters`); what it decides beyond the place is ignored.
        num_steps: stop after this many steps, at most the classifier's T; None takes all T.
        max_images: use at most this many images, evenly spread over the source.
        batch_size: images in a batch.
        on_progress: called with (images done, total).

    Returns:
        A record of N images.

    Raises:
        ValueError: if the policy is none, or it is unknown where its actions look.
    """
    policy = as_location_policy(policy, len(classifier.spec.patch_sizes))
    chosen = evenly_spread(len(source), max_images)
    batches: list[dict[str, np.ndarray]] = []
    generator = torch.Generator().manual_seed(0)  # of random first looks: the same for all policies
    for indices in chosen.split(batch_size):
        batches.append(_rollout(classifier, source.fetch(indices), policy, num_steps, generator))
        if on_progress is not None:
            on_progress(min(len(batches) * batch_size, len(chosen)), len(chosen))
    joined: dict[str, Any] = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return EvaluationRecord(
        **joined,
        multiply_adds=np.array(cumulative_multiply_adds(classifier, policy.multiply_adds, num_steps)),
        patch_sizes=classifier.spec.patch_sizes,
        image_size=source.image_size,
    )


def evenly_spread(length: int, most: int | None) -> Tensor:
    """Indices of all of `length` images, or of `most` of them spread over the whole, int64."""
    count = min(length, most or length)
    return torch.arange(count) * length // count


def cumulative_multiply_adds(
    classifier: GlanceFocusClassifier, policy_cost: int, num_steps: int | None = None
) -> list[int]:
    """Total multiply-adds of each size history: all its looks, and a decision of the policy before each but the first.

    Args:
        classifier: the networks.
        policy_cost: multiply-adds of one decision.
        num_steps: leave out longer histories; None takes all T steps.

    Returns:
        A total for each node of `classifiers.networks.size_histories`; with one size, for the first 1 to T steps.
    """
    sizes = range(len(classifier.spec.patch_sizes))
    looks = [glimpse_costs(classifier, size) for size in sizes]
    return [
        looks[0][0] + sum(looks[size][step] + policy_cost for step, size in enumerate(history, start=1))
        for history in size_histories(len(sizes), num_steps or classifier.spec.num_glimpses)
    ]


def _rollout(
    classifier: FrozenClassifier,
    batch: Batch,
    policy: LocationPolicy,
    num_steps: int | None,
    generator: torch.Generator,
) -> dict[str, np.ndarray]:
    images = batch.images.to(classifier.device)
    columns: dict[int, dict[str, np.ndarray]] = {}
    for node, glimpse, location in classifier.histories(
        images, policy, batch.labels, generator, num_steps, boxes=batch.boxes.to(images.device)
    ):
        found = summarize_logits(glimpse.logits, batch.labels)._asdict()
        columns[node] = {name: value.cpu().numpy() for name, value in found.items()}
        if location is not None:
            columns[node]["location"] = location.cpu().numpy()
    in_order = [columns[node] for node in sorted(columns)]
    by_node = {name: np.stack([column[name] for column in in_order if name in column], axis=1) for name in in_order[-1]}
    return {**by_node, "label": batch.labels.numpy(), "boxes": batch.boxes.numpy()}


@torch.inference_mode()
def sampled_accuracy(
    classifier: FrozenClassifier, source: ImageSource, policy: LocationPolicy, *, max_images: int, batch_size: int = 250
) -> list[float]:
    """Accuracy of a policy after each step, at patches of random sizes where there are several.

    Args:
        classifier: the frozen networks.
        source: the images.
        policy: where to look.
        max_images: use at most this many images, the same ones as `evaluate`.
        batch_size: images in a batch.

    Returns:
        T accuracies in [0, 1].
    """
    generator, chosen = torch.Generator().manual_seed(0), evenly_spread(len(source), max_images)
    right = torch.zeros(classifier.spec.num_glimpses, dtype=torch.int64)
    for indices in chosen.split(batch_size):
        batch = source.fetch(indices)
        images, boxes = batch.images.to(classifier.device), batch.boxes.to(classifier.device)
        looks = classifier.episode(images, policy, batch.labels, generator, boxes=boxes)
        right += torch.stack([(glimpse.logits.argmax(dim=1).cpu() == batch.labels).sum() for glimpse, _ in looks])
    return (right.double() / len(chosen)).tolist()


def final_accuracy(
    classifier: FrozenClassifier, source: ImageSource, policy: LocationPolicy, *, max_images: int, batch_size: int = 250
) -> float:
    """The last one of `sampled_accuracy`, after all T steps."""
    return sampled_accuracy(classifier, source, policy, max_images=max_images, batch_size=batch_size)[-1]


@torch.inference_mode()
def full_resolution_accuracy(
    network: FullResolutionNetwork, source: ImageSource, *, max_images: int | None = None, batch_size: int = 50
) -> float:
    """Accuracy in [0, 1] of an ordinary network, on any device, on whole images.

    Args:
        network: the network.
        source: the images.
        max_images: use at most this many images, the same ones as `evaluate`.
        batch_size: images in a batch.
    """
    network.eval()
    return _accuracy(lambda images: network(images.to(network.device)), source, max_images, batch_size)


@torch.inference_mode()
def glance_accuracy(classifier: FrozenClassifier, source: ImageSource, *, max_images: int | None = None) -> float:
    """Accuracy in [0, 1] of the glance alone, t = 1.

    Args:
        classifier: the networks, on any device.
        source: the images.
        max_images: use at most this many images, the same ones as `evaluate`.
    """
    return _accuracy(lambda images: classifier.glance(images.to(classifier.device)).logits, source, max_images, 50)


def _accuracy(
    logits: Callable[[Tensor], Tensor], source: ImageSource, max_images: int | None, batch_size: int
) -> float:
    right, chosen = 0, evenly_spread(len(source), max_images)
    for indices in chosen.split(batch_size):
        batch = source.fetch(indices)
        right += int((logits(batch.images).argmax(dim=1).cpu() == batch.labels).sum())
    return right / len(chosen)
