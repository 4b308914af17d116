"""Fixed-length episodes on held-out images, and their record."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.evaluation.record import EvaluationRecord
from agents.policies.protocol import LookPolicy
from classifiers.data.source import Batch, ImageSource
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.readout import read_out


@torch.inference_mode()
def evaluate(
    classifier: FrozenClassifier,
    source: ImageSource,
    policy: LookPolicy,
    *,
    num_steps: int | None = None,
    max_images: int | None = None,
    batch_size: int = 250,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationRecord:
    """Runs an episode of a policy on every image of a source.

    Args:
        classifier: the frozen networks; an episode has `spec.num_glimpses` steps.
        source: the images.
        policy: where to look.
        num_steps: stop after so many steps, at most the classifier's T; None takes all T.
        max_images: use at most so many images, evenly spread over the source.
        batch_size: images in a batch.
        on_progress: called with (images done, total).

    Returns:
        A record of N episodes.
    """
    chosen = _evenly_spread(len(source), max_images)
    batches: list[dict[str, np.ndarray]] = []
    generator = torch.Generator().manual_seed(0)  # of random first looks: the same for all policies
    for indices in chosen.split(batch_size):
        batches.append(_rollout(classifier, source.fetch(indices), policy, num_steps, generator))
        if on_progress is not None:
            on_progress(min(len(batches) * batch_size, len(chosen)), len(chosen))
    joined: dict[str, Any] = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return EvaluationRecord(
        **joined,
        multiply_adds=np.array(cumulative_multiply_adds(classifier, policy.multiply_adds)[:num_steps]),
        patch_sizes=(classifier.spec.patch_size,),
        image_size=source.image_size,
    )


def _evenly_spread(length: int, most: int | None) -> Tensor:
    count = min(length, most or length)
    return torch.arange(count) * length // count


def cumulative_multiply_adds(classifier: GlanceFocusClassifier, policy_cost: int) -> list[int]:
    """Total multiply-adds of the first 1 to T steps: t looks and t - 1 decisions of the policy."""
    looks = glimpse_costs(classifier)
    return [sum(looks[: t + 1]) + t * policy_cost for t in range(len(looks))]


def _rollout(
    classifier: FrozenClassifier,
    batch: Batch,
    policy: LookPolicy,
    num_steps: int | None,
    generator: torch.Generator,
) -> dict[str, np.ndarray]:
    images = batch.images.to(classifier.device)
    columns: list[dict[str, np.ndarray]] = []
    locations = []
    for glimpse, location in itertools.islice(classifier.episode(images, policy, batch.labels, generator), num_steps):
        found = read_out(glimpse.logits, batch.labels)._asdict()
        columns.append({name: value.cpu().numpy() for name, value in found.items()})
        if location is not None:
            locations.append(location.cpu())
    by_step = {name: np.stack([column[name] for column in columns], axis=1) for name in columns[0]}
    return {
        **by_step,
        "label": batch.labels.numpy(),
        "box": batch.boxes.numpy(),
        "location": torch.stack(locations, dim=1).numpy(),
    }


@torch.inference_mode()
def full_resolution_accuracy(
    network: FullResolutionNetwork, source: ImageSource, *, max_images: int | None = None, batch_size: int = 50
) -> float:
    """Accuracy of an ordinary network.

    Args:
        network: the network, on any device.
        source: the images.
        max_images: use at most so many images, the same ones as `evaluate`.
        batch_size: images in a batch.

    Returns:
        The accuracy, in [0, 1].
    """
    network.eval()
    device = network.device
    right, chosen = 0, _evenly_spread(len(source), max_images)
    for indices in chosen.split(batch_size):
        batch = source.fetch(indices)
        right += int((network(batch.images.to(device)).argmax(dim=1).cpu() == batch.labels).sum())
    return right / len(chosen)
