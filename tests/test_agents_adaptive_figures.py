"""What early exits give, as a run's metrics hold it, without networks."""

from __future__ import annotations

import numpy as np
import pytest
from test_agents_size_histories import random_table

from agents.evaluation import budgets
from agents.evaluation.budgets import adaptive_figures, fixed_lengths
from agents.evaluation.coordinate_ascent import CoordinateAscent
from agents.evaluation.history_table import HistoryTable
from agents.evaluation.record import EvaluationRecord


def _record(table: HistoryTable) -> EvaluationRecord:
    """A record whose confidences and right predictions are the table's."""
    count, nodes = table.scores.shape
    return EvaluationRecord(
        label=np.zeros(count, np.int64),
        box=np.zeros((count, 4), np.int64),
        prediction=np.where(table.is_right, 0, 1),
        confidence=table.scores,
        entropy=1 - table.scores,
        label_probability=table.is_right.astype(np.float32),
        location=np.zeros((count, nodes - 1, 2), np.float32),
        multiply_adds=table.multiply_adds,
        patch_sizes=tuple(range(8, 8 + table.num_sizes)),
        image_size=(32, 32),
    )


@pytest.mark.parametrize(("sizes", "searches"), [(1, 2), (3, 4)])
def test_the_figures_of_a_run_search_each_table_once(
    sizes: int, searches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One search of the confidences serves the curve and the fixed lengths; the match counts right images alone."""
    table = random_table(60, 3, sizes)
    record = _record(table)
    alone = [each["early_exits"] for each in fixed_lengths(record, record)]
    begun: list[HistoryTable] = []

    class Counted(CoordinateAscent):
        def __init__(self, table: HistoryTable, num_kicks: int | None = None) -> None:
            begun.append(table)
            super().__init__(table, num_kicks)

    monkeypatch.setattr(budgets, "CoordinateAscent", Counted)
    reachable = float(table.is_right[:, -1].mean())
    found = adaptive_figures(record, record, (reachable, reachable), 10**9)

    assert len(begun) == searches
    assert found["match"]["accuracy"] >= reachable
    for ours, theirs in zip(found["fixed_lengths"], alone, strict=True):
        assert ours["early_exits"]["multiply_adds"] <= ours["multiply_adds"] * (1 + 1e-9)
        assert ours["early_exits"]["accuracy"] >= theirs["accuracy"] - 1 / 60  # fewer restarts with several sizes
    best = found["curves"]["coordinate_ascent" if sizes == 1 else "confidence"]["accuracies"]
    assert best == sorted(best)
