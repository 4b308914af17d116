"""The best places that are the same for all images: what a policy that ignores its input can reach."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from agents.evaluation.rollout import evenly_spread
from agents.policies.baselines import FixedPlacesPolicy, encode_places, grid_locations
from classifiers.data.source import ImageSource
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.glimpse import summarize_logits

MAX_IMAGES = 1000
"""Maximum number of images that the places are chosen on."""


@torch.inference_mode()
def best_fixed_places(
    classifier: FrozenClassifier,
    source: ImageSource,
    *,
    grid: int = 5,
    max_images: int = MAX_IMAGES,
    batch_size: int = 50,
    on_progress: Callable[[int, int], None] | None = None,
) -> FixedPlacesPolicy:
    """Finds one place for each step: greedily the one of a grid that is best on average, given the places before it.

    Best is the highest accuracy after the step; among equals, the highest mean probability of the true label. Every
    place of every image is encoded once, so the cost is that of `grid ** 2` looks at `max_images` images. With several
    patch sizes the places are those for the largest patches.

    Args:
        classifier: the frozen networks.
        source: images to choose the places on, never those that are reported on.
        grid: locations along each axis, 2 or more.
        max_images: use at most this many images, evenly spread over the source.
        batch_size: images in a batch.
        on_progress: called with (images done, total).

    Returns:
        A policy with T - 1 places.

    Raises:
        ValueError: if the grid has fewer than 2 locations along each axis.
    """
    if grid < 2:
        raise ValueError(f"grid={grid}; pass 2 or more locations along each axis")
    places, chosen = grid_locations(grid).to(classifier.device), evenly_spread(len(source), max_images)
    generator = torch.Generator().manual_seed(0)  # of random first looks, as in `evaluate`
    parts: list[tuple[Tensor, ...]] = []
    for indices in chosen.split(batch_size):
        batch = source.fetch(indices)
        images = batch.images.to(classifier.device)
        glance = classifier.glance(images, classifier.first_location(len(images), generator))
        parts.append((*encode_places(classifier, images, places), glance.hidden, batch.labels.to(classifier.device)))
        if on_progress is not None:
            on_progress(min(len(parts) * batch_size, len(chosen)), len(chosen))
    pooled, encoder_logits, hidden, labels = (torch.cat(columns) for columns in zip(*parts, strict=True))
    reads = classifier.head.reads_encoder_logits(is_first=False)
    best = []
    for _ in range(classifier.spec.num_glimpses - 1):
        merits, states = [], []
        for place in range(len(places)):
            logits, state = classifier.head(pooled[:, place], encoder_logits[:, place] if reads else None, hidden)
            found = summarize_logits(logits, labels)
            assert found.label_probability is not None
            right = int((found.prediction == labels).sum())
            merits.append((right, float(found.label_probability.mean())))
            states.append(state)
        index = max(range(len(places)), key=merits.__getitem__)
        best.append(places[index])
        hidden = states[index]
    return FixedPlacesPolicy(torch.stack(best).cpu())
