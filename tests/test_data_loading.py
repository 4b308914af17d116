"""Images fetched ahead of need, by threads or processes: the same ones, in the same order."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from classifiers.data.augmentation import RandomCrops
from classifiers.data.decoding import UnreadableImageError
from classifiers.data.folder import FolderImages
from classifiers.data.loading import EpochLoader, Prefetcher
from classifiers.data.source import in_memory
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task
from gfnet_env.sampling import RowDraws

MakeClassifier = Callable[..., FrozenClassifier]


class Counting(FolderImages):
    """Notes which files are decoded."""

    seen: ClassVar[Counter[int]] = Counter()

    def decode(self, index: int) -> np.ndarray:
        Counting.seen[index] += 1
        return super().decode(index)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of noise and, the last, a file that is none."""
    root = tmp_path_factory.mktemp("folder")
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / label).mkdir()
        for index in range(6):
            Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(root / label / f"{index}.png")
    (root / "dog" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def files(root: Path) -> Counting:
    Counting.seen.clear()
    return Counting.open(root, (32, 40))


def test_workers_bring_what_the_process_itself_would_for_all_epochs(root: Path) -> None:
    plan = [torch.tensor([5, 0]), torch.tensor([2]), torch.tensor([1, 3, 4])]
    source = RandomCrops(FolderImages.open(root, (32, 40)), (0.2, 1.0), seed=3)
    alone, ahead = (EpochLoader(source, workers, torch.device("cpu")) for workers in (0, 2))

    for epoch, batches in ((0, plan), (1, plan[::-1]), (2, plan[:1])):
        next(iter(ahead.batches(epoch, batches)))  # left early
        expected, found = list(alone.batches(epoch, batches)), list(ahead.batches(epoch, batches))
        assert [len(batch.images) for batch in found] == [len(indices) for indices in batches]
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    ahead.close()


def test_what_was_announced_is_decoded_once(files: Counting) -> None:
    ahead = Prefetcher(files, 2)
    indices = torch.tensor([3, 5, 3])

    ahead.prefetch(indices.numpy())
    batch = ahead.fetch(indices)

    assert Counting.seen == Counter({3: 1, 5: 1})
    assert torch.equal(batch.images, files.fetch(indices).images) and torch.equal(batch.labels, files.labels[indices])
    ahead.prefetch(np.array([5, 8]))
    ahead.fetch(torch.tensor([3, 5, 8]))
    assert Counting.seen == Counter({3: 4, 5: 2, 8: 1})  # 3 was dropped; two fetches of the folder itself
    ahead.close()
    assert torch.equal(pickle.loads(pickle.dumps(ahead)).fetch(indices).images, batch.images)


def test_a_broken_file_is_reported_when_it_is_needed(files: Counting) -> None:
    ahead = Prefetcher(files, 2)

    ahead.prefetch(np.array([5, 12]))

    assert len(ahead.fetch(torch.tensor([5])).images) == 1
    with pytest.raises(UnreadableImageError, match=r"broken\.png"):
        ahead.fetch(torch.tensor([12]))
    with pytest.raises(ValueError, match="num_threads=0"):
        Prefetcher(files, 0)


def test_rows_are_single_environments_and_their_next_files_are_decoded_before(
    files: Counting, color_classifier: MakeClassifier
) -> None:
    readable, networks = files.only(torch.arange(12)), color_classifier(num_glimpses=2)
    rows = GlanceFocusVectorEnv(
        Task(Prefetcher(readable), networks), EpisodeSpec(), num_envs=2, autoreset_mode="SAME_STEP"
    )
    single = GlanceFocusEnv(Task(in_memory(readable), networks), EpisodeSpec())
    _, info = rows.reset(seed=7)
    _, alone = single.reset(seed=8)

    for _ in range(4):
        assert info["index"][1] == alone["index"]
        _, reward, _, _, info = rows.step(np.full((2, 2), 0.3, np.float32))
        assert reward[1] == pytest.approx(single.step(np.full(2, 0.3, np.float32))[1], abs=1e-6)
        _, alone = single.reset()
        assert set(rows.task.source._started) == set(rows._draws.upcoming.tolist())  # type: ignore[attr-defined]
    rows.close()


def test_images_are_drawn_one_episode_ahead_and_anew_after_a_seed() -> None:
    draws, both = RowDraws(1000, 2), np.array([0, 1])
    for row in both.tolist():
        draws.use(row, np.random.default_rng(row))

    first = draws.images(both)
    upcoming = draws.upcoming.copy()

    assert first.tolist() == [int(np.random.default_rng(seed).integers(1000)) for seed in (0, 1)]
    assert draws.images(both).tolist() == upcoming.tolist()
    draws.use(0, np.random.default_rng(0))
    assert draws.images(np.array([0]))[0] == first[0]
