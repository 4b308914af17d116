"""Files decoded ahead of need: the same images, in the same order, whatever was expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from classifiers.data.decoding import UnreadableImageError
from classifiers.data.folder import FolderImages
from classifiers.data.loading import Prefetcher
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task
from gfnet_env.sampling import ImageOrder

MakeClassifier = Callable[..., FrozenClassifier]


class Counting(FolderImages):
    """Notes which files are decoded."""

    seen: ClassVar[Counter[int]] = Counter()

    def decode(self, index: int) -> np.ndarray:
        Counting.seen[index] += 1
        return super().decode(index)


@pytest.fixture
def files(picture_tree: Path) -> Counting:
    Counting.seen = Counter()
    opened = FolderImages.open(picture_tree / "train", (96, 128))
    return Counting(opened.files, opened.labels, opened.class_names, opened.image_size)


def test_what_was_expected_is_decoded_once(files: Counting) -> None:
    ahead = Prefetcher(files, 2)
    indices = torch.tensor([3, 5, 3])

    ahead.prefetch(indices.numpy())
    batch = ahead.fetch(indices)

    assert torch.equal(batch.images, files.fetch(indices).images)
    assert torch.equal(batch.labels, files.labels[indices])
    assert Counting.seen == Counter({3: 3, 5: 2})  # once ahead, then by the folder itself


def test_what_is_no_longer_expected_is_forgotten(files: Counting) -> None:
    ahead = Prefetcher(files, 1)
    ahead.prefetch(np.array([1, 2]))
    ahead.fetch(torch.tensor([1, 2]))

    ahead.prefetch(np.array([2]))
    ahead.fetch(torch.tensor([1, 2, 4]))

    assert Counting.seen == Counter({1: 2, 2: 1, 4: 1})


def test_every_episode_but_the_first_was_decoded_before(files: Counting, colour_classifier: MakeClassifier) -> None:
    env = GlanceFocusVectorEnv(
        Task(Prefetcher(files), colour_classifier(num_glimpses=2)),
        EpisodeSpec(),
        num_envs=3,
        autoreset_mode="SAME_STEP",
    )
    env.reset(seed=0)
    for _ in range(6):
        env.step(np.zeros((3, 2), np.float32))
        upcoming = set(env._order.upcoming.tolist())
        assert set(env.task.source._started) == upcoming  # type: ignore[attr-defined]  # a Prefetcher


def test_rows_are_single_environments_from_files_too(files: Counting, colour_classifier: MakeClassifier) -> None:
    rows = GlanceFocusVectorEnv(
        Task(Prefetcher(files), colour_classifier(num_glimpses=2)),
        EpisodeSpec(),
        num_envs=2,
        autoreset_mode="SAME_STEP",
    )
    in_memory = files.fetch(torch.arange(len(files)))
    array = ArrayImages(in_memory.images, in_memory.labels, in_memory.boxes, files.class_names)
    single = GlanceFocusEnv(Task(array, colour_classifier(num_glimpses=2)), EpisodeSpec())
    _, info = rows.reset(seed=7)
    shown = [info["index"][1]]
    rewards = []
    for _ in range(4):
        _, reward, _, _, info = rows.step(np.full((2, 2), 0.3, np.float32))
        shown.append(info["index"][1])
        rewards.append(reward[1])

    _, alone = single.reset(seed=8)
    expected, expected_rewards = [alone["index"]], []
    for _ in range(4):
        expected_rewards.append(single.step(np.full(2, 0.3, np.float32))[1])
        expected.append(single.reset()[1]["index"])

    assert shown == expected
    assert rewards == pytest.approx(expected_rewards, abs=1e-6)


def test_a_broken_file_is_reported_when_it_is_needed(files: Counting) -> None:
    files.path(4).write_bytes(b"no picture")
    ahead = Prefetcher(files)

    ahead.prefetch(np.array([4, 5]))

    assert len(ahead.fetch(torch.tensor([5])).images) == 1
    with pytest.raises(UnreadableImageError, match="can't be decoded"):
        ahead.fetch(torch.tensor([4]))


def test_order_is_drawn_one_episode_ahead() -> None:
    order, rngs = ImageOrder(1000, 2), [np.random.default_rng(s) for s in (0, 1)]
    rows = np.array([0, 1])

    first = order.next_indices(rows, rngs)
    upcoming = order.upcoming.copy()
    second = order.next_indices(rows, rngs)

    assert second.tolist() == upcoming.tolist() and first.tolist() != second.tolist()
    assert first.tolist() == [int(np.random.default_rng(s).integers(1000)) for s in (0, 1)]
    order.invalidate(0)
    assert len(order.upcoming) == 1
    again = order.next_indices(np.array([0]), [np.random.default_rng(0)])
    assert again[0] == first[0]


def test_threads_must_be_some(files: Counting) -> None:
    with pytest.raises(ValueError, match="num_threads=0; pass 1 or more"):
        Prefetcher(files, 0)
