"""Whether a run is as accurate as its full-resolution network, what it saves, and what to try if it is not."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.evaluation.rollout import evenly_spread
from agents.recognition.recognizer import Recognizer
from agents.runs.config import RunConfig
from agents.runs.run import LoadedRun
from classifiers.data.source import ImageSource
from classifiers.networks.folding import fold_batch_norms
from classifiers.networks.full_resolution import FullResolutionNetwork

_IMAGES, _MULTIPLY_ADDS = 32, 2e10  # of a measurement: at most so many of either
_ROUNDS, _SECONDS = 5, 4.0
_RISE = 0.005  # of the accuracy by the last look; with more, another look may help, too


def saving(metrics: dict[str, Any], config: RunConfig) -> dict[str, Any] | None:
    """The entry `saving` of `metrics.json`, but for the time.

    Args:
        metrics: of the run.
        config: the run's.

    Returns:
        `accuracy`, with the thresholds for the full-resolution network's accuracy that were found on other images, else
        after the fewest looks that are as accurate, else after the best; `steps`, the number of these looks, None for
        thresholds; `full_resolution_accuracy`; `multiply_adds` and `full_resolution_multiply_adds` for one image;
        `is_as_accurate`; `is_within_error`, whether the accuracies differ by at most the standard error of the
        difference; `most_frequent_class`, the accuracy of naming that class for all images, None with class weights,
        which aim at something else; `has_learned`, whether the full-resolution network is better than that by two
        standard errors; `advice`, changes of the config to try where it is not, or where the run is less accurate. None
        without that network.
    """
    full = metrics["full_resolution_accuracy"]
    if full is None:
        return None
    match, accuracy = (metrics["adaptive"] or {}).get("match"), metrics["accuracy"]["learned"]
    step = next((step for step, reached in enumerate(accuracy) if reached >= full), accuracy.index(max(accuracy)))
    reached = match["accuracy"] if match else accuracy[step]
    error = math.sqrt((full * (1 - full) + reached * (1 - reached)) / metrics["images"])
    counts = (metrics.get("classes") or {}).get("images") if config.class_weight is None else None
    naive = max(counts) / sum(counts) if counts else None
    learned = naive is None or full > naive + 2 * math.sqrt(naive * (1 - naive) / metrics["images"])
    advice = _untrained_advice(config) if not learned else [] if reached >= full else _advice(metrics, config, error)
    return {
        "has_learned": learned,
        "most_frequent_class": naive,
        "is_as_accurate": reached >= full,
        "is_within_error": abs(reached - full) <= error,
        "accuracy": reached,
        "full_resolution_accuracy": full,
        "steps": None if match else step + 1,
        "multiply_adds": match["multiply_adds"] if match else metrics["multiply_adds"]["cumulative"][step],
        "full_resolution_multiply_adds": metrics["multiply_adds"]["full_resolution"],
        "advice": advice,
    }


def _untrained_advice(config: RunConfig) -> list[str]:
    """What to try for a full-resolution network that has learned nothing."""
    if config.initialization is None:
        return []
    training, prefix, found = config.initialization.full_resolution, "initialization.full_resolution", []
    if training.freeze_statistics and not config.initialization.refit_statistics:
        found.append("batch normalizations that fit your pictures (initialization.refit_statistics=true)")
    steps = f" {prefix}.min_steps={4 * training.min_steps}" if training.min_steps else ""
    return [*found, f"a longer training ({prefix}.epochs={4 * training.epochs}{steps})", "more training images"]


def _advice(metrics: dict[str, Any], config: RunConfig, error: float) -> list[str]:
    """At most three changes of a config, the most promising ones first."""
    learned, random = metrics["accuracy"]["learned"], metrics["accuracy"].get("random")
    spec, found = config.classifier, []
    if config.initialization is not None and config.initialization.weights is None and spec.num_frames is None:
        found.append(
            "pretrained weights (classifier.encoder=timm:tf_efficientnet_lite0 "
            "initialization.weights=package:efficientnet-lite0)"
        )
    if random is not None and learned[1] < random[1] + error:
        found.append(f"a longer stage II (stage2.env_steps={2 * config.stage2.env_steps})")
    if learned[-1] - learned[-2] > _RISE:
        found.append(f"more looks (classifier.num_glimpses={spec.num_glimpses + 2})")
    if len(spec.patch_sizes) == 1:
        found.append(f"larger patches (classifier.patch_size={-(-spec.patch_size * 4 // 24) * 8})")
    if config.stage1 is not None and config.stage1.epochs:
        longer = f"stage1.epochs={2 * config.stage1.epochs} stage3.epochs={2 * config.stage3.epochs}"
        found.append(f"a longer training with patches ({longer})")
    return found[:3]


@torch.inference_mode()
def milliseconds(
    run: LoadedRun, source: ImageSource, cost: int, thresholds: list[list[float | None]] | None, steps: int | None
) -> dict[str, Any]:
    """Times the run beside its full-resolution network, in turn, on a batch of images; takes seconds.

    Args:
        run: the networks, a full-resolution one among them.
        source: the images, evenly spread ones of which are taken.
        cost: multiply-adds of that network for one image.
        thresholds: (T - 1, K) confidences above which an image is done, None for infinity; None takes `steps` looks.
        steps: the number of looks of each image; None where there are thresholds.

    Returns:
        `milliseconds` and `full_resolution_milliseconds` of an image, medians; `images` in the batch; `device`.
    """
    assert run.full_resolution is not None
    network = _folded(run.full_resolution)
    recognizer = Recognizer(run.classifier, run.policy, batch_size=_IMAGES)
    if thresholds is None:
        recognizer.use(num_glimpses=steps)
    else:
        recognizer.use(thresholds=np.array([[math.inf if one is None else one for one in row] for row in thresholds]))
    count = max(1, min(_IMAGES, int(_MULTIPLY_ADDS // cost)))
    images = source.fetch(evenly_spread(len(source), count)).images
    ways: tuple[Callable[[Tensor], object], ...] = (
        recognizer.predict,
        lambda pixels: network(pixels.to(network.device)).argmax(dim=1).cpu(),  # waits for a GPU
    )
    seconds: list[list[float]] = [[], []]
    began = time.perf_counter()
    for _ in range(_ROUNDS + 1):
        for way, taken in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way(images)
            taken.append(time.perf_counter() - start)
        if time.perf_counter() - began > _SECONDS:
            break
    ours, whole = (1e3 * statistics.median(taken[1:] or taken) / len(images) for taken in seconds)  # first: warm-up
    return {
        "milliseconds": ours,
        "full_resolution_milliseconds": whole,
        "images": len(images),
        "device": str(run.classifier.device),
    }


def _folded(network: FullResolutionNetwork) -> FullResolutionNetwork:
    """A copy without batch normalizations, as the run's own networks are."""
    twin = copy.deepcopy(network).eval()
    twin.encoder.trunk = fold_batch_norms(twin.encoder.trunk).to(memory_format=torch.channels_last)
    return twin
