"""Figures of an evaluation record, and what they say of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from agents.evaluation.record import EvaluationRecord
from classifiers.networks.geometry import top_left_px
from classifiers.networks.size_histories import mean_by_step, node_of, size_histories

_CONFUSIONS = 10


def accuracy_by_step(record: EvaluationRecord) -> list[float]:
    """Accuracy after each of the T steps (anytime prediction, Section 5.1.2); of several sizes, drawn at random."""
    return _shares(record, record.prediction == record.label[:, None])


def pointing_game(record: EvaluationRecord) -> list[float] | None:
    """How often one of the first 1, 2, ..., T - 1 patches contains the center of a ground-truth box.

    Returns:
        T - 1 fractions of the images that have a box; None if none has. With several patch sizes, the averages of all
        ways to choose them.
    """
    found = _boxes_found(record)
    return None if found is None else _shares(record, np.nan_to_num(found).any(axis=2))[1:]


def coverage(record: EvaluationRecord) -> list[float] | None:
    """Which share of an image's boxes the first 1, 2, ..., T - 1 patches have found: a patch contains their center.

    Returns:
        T - 1 means over the images that have a box; None if none has. With several patch sizes, the averages of all
        ways to choose them.
    """
    found = _boxes_found(record)
    return None if found is None else _shares(record, np.nanmean(found, axis=2))[1:]


def confusion_matrix(record: EvaluationRecord, num_classes: int) -> np.ndarray:
    """How often each class, a row, is taken for each class, a column, after all T looks: (K, K) int64.

    With several patch sizes, all patches are of the largest.
    """
    prediction = record.prediction[:, record.largest_patches[-1]]
    counts: np.ndarray = np.bincount(record.label * num_classes + prediction, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_figures(matrix: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """The entry `classes` of `metrics.json`.

    Args:
        matrix: (K, K), see `confusion_matrix`.
        names: of the K classes.

    Returns:
        `names`; `images` of each class; `accuracy` of each class, None for one without an image; `balanced_accuracy`,
        their mean; `confusions`, at most ten of the most frequent ones, each with a `label`, a `prediction` and the
        number of `images`.
    """
    images, right = matrix.sum(axis=1), matrix.diagonal()
    accuracy = [float(hits / count) if count else None for hits, count in zip(right, images, strict=True)]
    wrong = matrix - np.diag(right)
    most = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    pairs = [divmod(int(place), len(names)) for place in most if wrong.flat[place]]
    return {
        "names": list(names),
        "images": images.tolist(),
        "accuracy": accuracy,
        "balanced_accuracy": float(np.mean([each for each in accuracy if each is not None])),
        "confusions": [
            {"label": names[label], "prediction": names[taken], "images": int(matrix[label, taken])}
            for label, taken in pairs
        ],
    }


def _boxes_found(record: EvaluationRecord) -> np.ndarray | None:
    """(images with a box, nodes, M): 1 where a patch so far contains a box's center, else 0; NaN where no box is."""
    has_box = record.boxes.any(axis=(1, 2))
    if not has_box.any():
        return None
    boxes = record.boxes[has_box]
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2  # (N, M, 2)
    location = torch.from_numpy(record.location[has_box])
    found = np.zeros((len(boxes), len(record.multiply_adds), boxes.shape[1]))  # (N, nodes, M); at the glance: none
    for node, history in enumerate(size_histories(len(record.patch_sizes), record.num_steps)[1:], start=1):
        side = record.patch_sizes[history[-1]]
        corner = top_left_px(location[:, node - 1], record.image_size, side).numpy()[:, None]
        inside: np.ndarray = np.all((corner <= centers) & (centers < corner + side), axis=2)
        found[:, node] = np.maximum(inside, found[:, node_of(history[:-1], len(record.patch_sizes))])
    is_there: np.ndarray = np.any(boxes, axis=2)
    return np.where(is_there[:, None], found, np.nan)


def training_findings(
    learned: EvaluationRecord, random: EvaluationRecord | None, full_resolution: float | None
) -> list[str]:
    """What went wrong in a training, a sentence for each of its parts; a difference within two standard errors is none.

    The full-resolution network and the classifier (stages I and III) are compared with chance: always naming the most
    frequent class. The places of the policy (stage II) are compared with random ones on the same images.

    Args:
        learned: record of the run's policy.
        random: record of random places on the same images; None if the policy was not learned.
        full_resolution: accuracy of the full-resolution network on them; None if there is none.

    Returns:
        The sentences; none if each part is better than what it is compared with.
    """
    count = len(learned.label)
    chance = float(np.bincount(learned.label).max()) / count
    rival = f"no better than always naming the most frequent class ({chance:.3f})"
    limit = chance + 2 * np.sqrt(chance * (1 - chance) / count) if chance < 1 else -np.inf  # one class tells nothing
    findings = []
    if full_resolution is not None and full_resolution <= limit:
        findings.append(f"The full-resolution network, accuracy {full_resolution:.3f}, is {rival}.")
    steps = _right_by_step(learned)
    best = float(steps.mean(axis=0).max())
    if best <= limit:
        findings.append(f"The classifier, accuracy {best:.3f} after its best step, is {rival}.")
    if random is not None:
        gain = (steps - _right_by_step(random))[:, 1:]  # no place is chosen at the glance
        error = gain.std(axis=0) / np.sqrt(count)
        if (gain.mean(axis=0) <= 2 * error).all():
            step = int(gain.mean(axis=0).argmax()) + 1
            ours = float(steps[:, step].mean())
            theirs = ours - float(gain[:, step - 1].mean())
            findings.append(
                f"The learned places, accuracy {ours:.3f} at t={step + 1}, are no better than random ones "
                f"({theirs:.3f})."
            )
    return findings


def _right_by_step(record: EvaluationRecord) -> np.ndarray:
    """(N, T) share of the histories of each step after which an image's prediction is right."""
    is_right = record.prediction == record.label[:, None]
    lengths = np.array([len(history) for history in size_histories(len(record.patch_sizes), record.num_steps)])
    return np.stack([is_right[:, lengths == length].mean(axis=1) for length in range(record.num_steps)], axis=1)


def _shares(record: EvaluationRecord, is_so: np.ndarray) -> list[float]:
    """The fraction of the images of which something is so after each step, averaged over the histories of the step."""
    shares: list[float] = mean_by_step(is_so.mean(axis=0), len(record.patch_sizes)).tolist()
    return shares
