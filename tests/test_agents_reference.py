"""Policies that need no training: the reference, which sees boxes, and the blind scan."""

from __future__ import annotations

import pytest
import torch

from agents.policies.baselines import ReferencePolicy, ScanPolicy
from classifiers.networks.geometry import top_left_px
from classifiers.networks.glimpse import Glimpse, View

SIZE = (40, 60)


def _view(step: int, boxes: list[list[tuple[int, ...]]] | None, count: int = 2, next_size: int | None = None) -> View:
    nothing = torch.zeros(count, 1)
    sizes = None if next_size is None else torch.eye(2)[[next_size] * count]
    return View(
        Glimpse(nothing, nothing, nothing, nothing),
        nothing,
        torch.zeros(count, 4, 2),
        torch.full((count,), step),
        next_size=sizes,
        boxes=None if boxes is None else torch.tensor(boxes),
    )


def test_the_reference_visits_the_boxes_in_order_then_stays_at_the_last() -> None:
    gone = (0, 0, 0, 0)
    boxes = [[gone, (10, 20, 14, 26), (0, 0, 4, 4)], [(30, 50, 40, 60), gone, gone], [gone, gone, gone]]
    policy = ReferencePolicy(SIZE, (8, 16))

    def corners(step: int, size: int) -> list[list[int]]:
        location, _ = policy(_view(step, boxes, 3, size), None)
        return top_left_px(location, SIZE, (8, 16)[size]).tolist()

    assert corners(1, 0) == [[8, 19], [31, 51], [16, 26]]
    assert corners(2, 0) == corners(3, 0) == [[0, 0], [31, 51], [16, 26]]
    assert corners(1, 1)[:2] == [[4, 15], [24, 44]]  # as near as the border allows
    with pytest.raises(ValueError, match="needs boxes"):
        policy(_view(1, None), None)


def test_the_scan_covers_the_image_without_repeats() -> None:
    policy = ScanPolicy(SIZE, 16, seed=3)
    state, seen = None, torch.zeros(2, *SIZE)
    orders: list[list[tuple[float, ...]]] = [[], []]

    for step in range(1, 14):
        location, state = policy(_view(step, None), state)
        for row, (top, left) in enumerate(top_left_px(location, SIZE, 16).tolist()):
            seen[row, top : top + 16, left : left + 16] = 1
            orders[row].append(tuple(location[row].tolist()))

    assert len(policy.places) == 12 and seen.all()
    assert all(len(set(order[:12])) == 12 and order[12] == order[0] for order in orders)
    assert orders[0] != orders[1]
