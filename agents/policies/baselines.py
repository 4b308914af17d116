"""Policies that learn nothing: what a learned one is compared with (Table 5).

A policy for evaluation is a function of a batch that returns a locator for it; only the oracle looks at the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from classifiers.data.source import Batch
from classifiers.networks.geometry import crop, top_left_px
from classifiers.networks.glance_focus import GlanceFocusClassifier, Glimpse, Locator
from classifiers.training.stages import random_locator

Policy = Callable[[Batch], Locator]
"""`policy(batch)` is the locator for that batch's images."""

CENTRE_CORNERS = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
"""(5, 2) locations of the centre-corner policy, in its order (Table 5)."""


def random_policy(seed: int) -> Policy:
    """Uniform locations, reproducible by seed."""
    generator = torch.Generator().manual_seed(seed)
    return lambda batch: random_locator(generator)


def centre_corner_policy() -> Policy:
    """First the centre, then the corners in reading order (Table 5), then the centre again."""

    def locate(glimpse: Glimpse, state: int | None) -> tuple[Tensor, int]:
        step = state or 0
        place = CENTRE_CORNERS[step % len(CENTRE_CORNERS)].to(glimpse.logits.device)
        return place.expand(len(glimpse.logits), 2), step + 1

    return lambda batch: locate


def oracle_policy(classifier: GlanceFocusClassifier, grid: int = 9) -> Policy:
    """Tries a grid of locations at every step and takes the one that helps the true label most.

    It sees labels, so it is no policy but the ceiling that one can be judged by (greedy, one step ahead). The patches
    are encoded once; only the head runs anew at each step.

    Args:
        classifier: the frozen networks.
        grid: locations tried along each axis.

    Returns:
        The policy.
    """
    places = grid_locations(grid)

    def locator_of(batch: Batch) -> Locator:
        pooled, encoder_logits = encode_places(classifier, batch.images, places)  # (B, G, F), (B, G, K)

        def locate(glimpse: Glimpse, state: Any) -> tuple[Tensor, Any]:
            chances = label_chances(classifier, pooled, encoder_logits, glimpse.hidden, batch.labels)
            return places[chances.argmax(dim=1).cpu()].to(glimpse.logits.device), state

        return locate

    return locator_of


def grid_locations(grid: int, columns: int | None = None) -> Tensor:
    """(grid * columns, 2) locations on a regular grid over [0, 1]^2, row by row; `columns` defaults to `grid`."""
    rows = torch.linspace(0.0, 1.0, grid)
    return torch.cartesian_prod(rows, torch.linspace(0.0, 1.0, columns or grid))


@torch.inference_mode()
def encode_places(classifier: GlanceFocusClassifier, images: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """What the local encoder makes of the patch at every place of every image.

    Args:
        classifier: the frozen networks.
        images: (B, 3, H, W) uint8.
        places: (G, 2) locations in [0, 1].

    Returns:
        pooled (B, G, F) and the encoder's own logits (B, G, K).
    """
    pooled, logits = [], []
    side, size = classifier.spec.patch_size, (images.shape[2], images.shape[3])
    for image in images:
        corners = top_left_px(places, size, side).to(image.device)
        patches = crop(image.expand(len(places), *image.shape), corners, side)
        vectors = classifier.local_encoder(classifier.normalize(patches)).pooled
        pooled.append(vectors)
        logits.append(classifier.local_encoder.classifier(vectors))
    return torch.stack(pooled), torch.stack(logits)


@torch.inference_mode()
def label_chances(
    classifier: GlanceFocusClassifier, pooled: Tensor, encoder_logits: Tensor, hidden: Tensor, labels: Tensor
) -> Tensor:
    """The true label's probability after a look at each place, (B, G); see `encode_places` for the arguments."""
    count, places = pooled.shape[:2]
    logits, _ = classifier.head(
        pooled.flatten(0, 1), encoder_logits.flatten(0, 1), hidden.repeat_interleave(places, dim=0)
    )
    truth = labels.to(logits.device).repeat_interleave(places)
    chances: Tensor = logits.softmax(dim=1).gather(1, truth[:, None]).view(count, places)
    return chances
