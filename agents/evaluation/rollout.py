"""What a policy is worth on held-out images: one record of a fixed-length rollout, and pure functions of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.evaluation.record import EvaluationRecord
from agents.policies.baselines import Policy
from classifiers.data.source import Batch, ImageSource
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.geometry import crop, top_left_px
from classifiers.networks.glance_focus import GlanceFocusClassifier, Glimpse


@torch.inference_mode()
def evaluate(
    classifier: FrozenClassifier,
    source: ImageSource,
    policy: Policy,
    *,
    num_glimpses: int | None = None,
    policy_cost: int = 0,
    max_images: int | None = None,
    batch_size: int = 250,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationRecord:
    """Lets a policy look at every image of a source for T steps, the glance counted.

    Args:
        classifier: the frozen networks.
        source: the images.
        policy: where to look.
        num_glimpses: T; the classifier's if None.
        policy_cost: multiply-adds of one decision of the policy.
        max_images: look at so many images at most, evenly spread over the source.
        batch_size: images side by side.
        on_progress: told of (images done, images in all).

    Returns:
        The record.
    """
    steps = num_glimpses or classifier.spec.num_glimpses
    chosen = _evenly_spread(len(source), max_images)
    parts: list[dict[str, np.ndarray]] = []
    for indices in chosen.split(batch_size):
        parts.append(_rollout(classifier, source.fetch(indices), policy, steps))
        if on_progress is not None:
            on_progress(min(len(parts) * batch_size, len(chosen)), len(chosen))
    joined: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return EvaluationRecord(
        **joined,
        multiply_adds=np.array(cumulative_multiply_adds(classifier, policy_cost, steps)),
        patch_size=classifier.spec.patch_size,
        image_size=source.image_size,
    )


def _evenly_spread(length: int, most: int | None) -> Tensor:
    count = min(length, most or length)
    return torch.arange(count) * length // count


def cumulative_multiply_adds(classifier: GlanceFocusClassifier, policy_cost: int, num_glimpses: int) -> list[int]:
    """Multiply-adds of the first 1 to T steps together: t looks and t - 1 decisions of the policy."""
    looks = glimpse_costs(classifier)
    looks = (*looks, *[looks[-1]] * (num_glimpses - len(looks)))[:num_glimpses]
    return [sum(looks[: t + 1]) + t * policy_cost for t in range(num_glimpses)]


def _rollout(classifier: FrozenClassifier, batch: Batch, policy: Policy, steps: int) -> dict[str, np.ndarray]:
    device = classifier.normalize.scale.device
    images = batch.images.to(device)
    locate, state = policy(batch._replace(images=images)), None
    glimpse = classifier.glance(images)
    columns, locations = [_columns(glimpse, batch.labels)], []
    side = classifier.spec.patch_size
    for _ in range(steps - 1):
        location, state = locate(glimpse, state)
        patches = crop(images, top_left_px(location, (images.shape[2], images.shape[3]), side), side)
        glimpse = classifier.focus(patches, glimpse.hidden)
        columns.append(_columns(glimpse, batch.labels))
        locations.append(location.cpu())
    by_step = {name: np.stack([column[name] for column in columns], axis=1) for name in columns[0]}
    return {
        **by_step,
        "label": batch.labels.numpy(),
        "box": batch.boxes.numpy(),
        "location": torch.stack(locations, dim=1).numpy(),
    }


def _columns(glimpse: Glimpse, labels: Tensor) -> dict[str, np.ndarray]:
    log_probabilities = glimpse.logits.float().log_softmax(dim=1).cpu()  # (B, K)
    probabilities = log_probabilities.exp()
    confidence, prediction = probabilities.max(dim=1)
    return {
        "prediction": prediction.numpy(),
        "confidence": confidence.numpy(),
        "entropy": -(probabilities * log_probabilities).sum(dim=1).numpy(),
        "label_probability": probabilities.gather(1, labels[:, None])[:, 0].numpy(),
    }


@torch.inference_mode()
def full_resolution_accuracy(
    network: FullResolutionNetwork, source: ImageSource, *, max_images: int | None = None, batch_size: int = 50
) -> float:
    """Share of images that an ordinary network classifies rightly.

    Args:
        network: the network, on any device.
        source: the images.
        max_images: look at so many images at most, the same that `evaluate` looks at.
        batch_size: images side by side.

    Returns:
        The share.
    """
    network.eval()
    device = network.normalize.scale.device
    right, chosen = 0, _evenly_spread(len(source), max_images)
    for indices in chosen.split(batch_size):
        batch = source.fetch(indices)
        right += int((network(batch.images.to(device)).argmax(dim=1).cpu() == batch.labels).sum())
    return right / len(chosen)
