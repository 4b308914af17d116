"""Figures of an evaluation record."""

from __future__ import annotations

import numpy as np
import torch

from agents.evaluation.record import EvaluationRecord
from classifiers.networks.geometry import top_left_px


def accuracy_by_step(record: EvaluationRecord) -> list[float]:
    """Accuracy after each of the T steps (anytime prediction, Section 5.1.2)."""
    right: list[float] = (record.prediction == record.label[:, None]).mean(axis=0).tolist()
    return right


def pointing_game(record: EvaluationRecord) -> list[float] | None:
    """How often one of the first 1, 2, ..., T - 1 patches contains the centre of the ground-truth box.

    Args:
        record: of images with ground-truth boxes.

    Returns:
        T - 1 fractions of the images that have a box; None if none has.
    """
    has_box = record.box.any(axis=1)
    if not has_box.any():
        return None
    box, side = record.box[has_box][:, None], record.patch_size
    centre = (box[..., :2] + box[..., 2:]) / 2  # (N, 1, 2)
    location = torch.from_numpy(record.location[has_box]).flatten(0, 1)
    corners = top_left_px(location, record.image_size, side).numpy().reshape(-1, record.location.shape[1], 2)
    inside = ((corners <= centre) & (centre < corners + side)).all(axis=2)  # (N, T - 1)
    shares: list[float] = np.logical_or.accumulate(inside, axis=1).mean(axis=0).tolist()
    return shares
