"""Figures of an evaluation record."""

from __future__ import annotations

import numpy as np
import torch

from agents.evaluation.record import EvaluationRecord
from classifiers.networks.geometry import top_left_px
from classifiers.networks.size_histories import mean_by_step, node_of, size_histories


def accuracy_by_step(record: EvaluationRecord) -> list[float]:
    """Accuracy after each of the T steps (anytime prediction, Section 5.1.2); of several sizes, drawn at random."""
    return _shares(record, record.prediction == record.label[:, None])


def pointing_game(record: EvaluationRecord) -> list[float] | None:
    """How often one of the first 1, 2, ..., T - 1 patches contains the centre of the ground-truth box.

    Returns:
        T - 1 fractions of the images that have a box; None if none has. With several patch sizes, the averages of all
        ways to choose them.
    """
    has_box = record.box.any(axis=1)
    if not has_box.any():
        return None
    box = record.box[has_box]
    centre = (box[:, :2] + box[:, 2:]) / 2
    location = torch.from_numpy(record.location[has_box])
    found = np.zeros((len(box), len(record.multiply_adds)), dtype=bool)  # at the glance: no
    for node, history in enumerate(size_histories(len(record.patch_sizes), record.num_steps)[1:], start=1):
        side = record.patch_sizes[history[-1]]
        corner = top_left_px(location[:, node - 1], record.image_size, side).numpy()
        inside = ((corner <= centre) & (centre < corner + side)).all(axis=1)
        found[:, node] = inside | found[:, node_of(history[:-1], len(record.patch_sizes))]
    return _shares(record, found)[1:]


def _shares(record: EvaluationRecord, is_so: np.ndarray) -> list[float]:
    """The fraction of the images of which something is so after each step, averaged over the histories of the step."""
    shares: list[float] = mean_by_step(is_so.mean(axis=0), len(record.patch_sizes)).tolist()
    return shares
