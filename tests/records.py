"""Evaluation records and tables of outcomes made up for tests, without networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.evaluation.record import EvaluationRecord
from agents.evaluation.stopping import HistoryTable
from classifiers.networks.size_histories import size_histories


def make_record(confidence: np.ndarray, **fields: Any) -> EvaluationRecord:
    """A record with these (N, nodes) confidences; labels, predictions, locations and the rest are zeros."""
    count, nodes = confidence.shape
    zeros: dict[str, Any] = {
        "label": np.zeros(count, np.int64),
        "boxes": np.zeros((count, 1, 4), np.int64),
        "prediction": np.zeros((count, nodes), np.int64),
        "entropy": np.zeros((count, nodes), np.float32),
        "label_probability": np.zeros((count, nodes), np.float32),
        "location": np.zeros((count, nodes - 1, 2), np.float32),
        "multiply_adds": np.arange(1, nodes + 1),
        "patch_sizes": (10,),
        "image_size": (20, 20),
    }
    return EvaluationRecord(confidence=confidence.astype(np.float32), **{**zeros, **fields})


def random_table(count: int, steps: int, sizes: int, seed: int = 0) -> HistoryTable:
    """Larger patches cost more, and are right and certain more often; scores of few images may tie."""
    rng = np.random.default_rng(seed)
    histories = size_histories(sizes, steps)
    gain = np.array([sum(0.1 + 0.05 * size for size in history) for history in histories])
    scores = np.clip(rng.uniform(0.1, 0.7, (count, 1)) + gain + rng.normal(0, 0.1, (count, len(histories))), 0.1, 0.99)
    scores = np.round(scores, 2).astype(np.float32)
    costs = np.array([10 + sum(10 + 9 * size for size in history) for history in histories])
    return HistoryTable(scores, rng.random(scores.shape) < scores, costs, sizes)


def record_of(table: HistoryTable, **fields: Any) -> EvaluationRecord:
    """A record whose confidences and right predictions are the table's."""
    return make_record(
        table.scores,
        prediction=np.where(table.is_right, 0, 1),
        entropy=1 - table.scores,
        multiply_adds=table.multiply_adds,
        patch_sizes=tuple(range(8, 8 + table.num_sizes)),
        **fields,
    )
