"""Policies that need no training: the reference, which sees boxes, and the blind scan."""

from __future__ import annotations

import pytest
import torch
from conftest import random_classifier

from agents import as_sb3, play, train_box_policy
from agents.policies.baselines import ReferencePolicy, ScanPolicy
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import frozen
from classifiers.networks.geometry import top_left_px
from classifiers.networks.glimpse import Glimpse, View
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task

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


def _blobs(count: int) -> Task:
    """Images with a white blob in the left half, or in none of every fourth, and a black one in the right half."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((count, 3, 64, 64), 120, dtype=torch.uint8)
    boxes = torch.zeros(count, 2, 4, dtype=torch.int64)
    for index in range(count):
        for side, color in ((0, 255), (1, 0)):
            if (index + side) % 4:
                top, left = torch.randint(22, (2,), generator=generator).tolist()
                left += 32 * side
                images[index, :, top : top + 10, left : left + 10] = color
                boxes[index, side] = torch.tensor((top, left, top + 10, left + 10))
    source = ArrayImages(images, torch.zeros(count, dtype=torch.int64), boxes, ("a", "b"))
    spec = ClassifierSpec(encoder="small_resnet", patch_sizes=(8, 16), glance_size=64, hidden_size=8, num_glimpses=4)
    return Task(source, frozen(random_classifier(spec, 2)))


def test_box_regression_looks_at_the_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.policies.box_regression._STEPS", 300)
    task = _blobs(300)
    state = torch.random.get_rng_state()

    policy = train_box_policy(task, num_scenes=200, seed=1)

    assert torch.equal(torch.random.get_rng_state(), state)
    batch = task.source.fetch(torch.arange(200, 300))
    view = View.first(task.classifier.glance(batch.images), batch.images, 4, num_sizes=2, boxes=batch.boxes)
    for step in (1, 2):
        location, _ = policy(view._replace(step=torch.full((100,), step)), None)
        center = location * (64 - 16) + 8  # in pixels
        boxes = batch.boxes[:, step - 1]
        gap = (center - (boxes[:, :2] + boxes[:, 2:]) / 2)[boxes.any(dim=1)].abs()
        assert gap.mean() < 3.0  # a blind guess at the middle is 5.5 off
    monkeypatch.setattr("agents.policies.box_regression._STEPS", 3)
    one, again = (train_box_policy(task, num_scenes=200, seed=1).network.parameters() for _ in range(2))
    assert all(map(torch.equal, one, again))
    with pytest.raises(ValueError, match="has a box"):
        train_box_policy(Task(ArrayImages(task.source.fetch(torch.arange(4)).images, *_unlabeled(4)), task.classifier))


def _unlabeled(count: int) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    return torch.zeros(count, dtype=torch.int64), torch.zeros(count, 1, 4, dtype=torch.int64), ("a", "b")


def test_the_reference_takes_the_smallest_size_that_holds_a_box_and_stops_when_all_are_visited() -> None:
    gone = (0, 0, 0, 0)
    boxes = [[gone, (10, 20, 14, 26), (0, 0, 4, 9)], [(20, 30, 40, 60), gone, gone], [gone, gone, gone]]
    policy = ReferencePolicy(SIZE, (8, 16))

    first, second, third = (policy.act(_view(step, boxes, 3), ("row", "col", "stop", "size")) for step in (1, 2, 3))

    assert first[:, 2].tolist() == [-1.0, -1.0, 1.0]
    assert first[:, 3].tolist() == [-0.5, 0.5, -0.5] and second[0, 3] == 0.5
    assert second[:, 2].tolist() == [-1.0, 1.0, 1.0] and third[:, 2].tolist() == [1.0, 1.0, 1.0]
    corners = top_left_px((first[:1, :2] + 1) / 2, SIZE, 8)
    assert corners.tolist() == [[8, 19]]
    assert policy.act(_view(1, boxes, 3), ("row", "col", "size")).shape == (3, 3)


def test_the_reference_plays_with_sizes_and_stops() -> None:
    rules = EpisodeSpec(size_action=True, stop_action=True, step_cost=0.25, reward="increment")
    env = as_sb3(GlanceFocusVectorEnv(_blobs(20), rules, num_envs=8, autoreset_mode="SAME_STEP"))
    task = env.get_attr("task")[0]

    played = play(env, ReferencePolicy(task.source.image_size, task.classifier.spec.patch_sizes))

    there = task.source.boxes.any(dim=2).sum(dim=1)
    assert played.looks.tolist() == (1 + there).tolist()
