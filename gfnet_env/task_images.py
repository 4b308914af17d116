"""The images and the classifier of a registered task as `data:` and `start:` of a run."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from classifiers.data.collection import ImageCollection, OnProgress
from classifiers.data.loading import Prefetcher
from classifiers.data.registry import COLLECTIONS
from classifiers.data.source import Batch, ImageSource, SourceView
from classifiers.networks.glance_focus import GlanceFocusClassifier
from gfnet_env.registration import TASKS, known_task
from gfnet_env.tasks import Task

_ANY_SPLIT = "test"  # sizes, classes and networks are those of all splits; reports need this one anyway


class TaskImages(ImageCollection):
    """The images of a registered task. With `start: task`, a run takes its classifier, too.

    Attributes:
        id: of the environment, a key of `gfnet_env.TASKS`; a module that registers it is imported by `--import`.
        arguments: of the task's function, such as `num_scenes`, the same for all splits.
    """

    kind: Literal["task"] = "task"
    id: Annotated[str, AfterValidator(known_task)]
    arguments: dict[str, Any] = Field(default_factory=dict)

    @property
    def image_size(self) -> tuple[int, int]:
        return self._task(_ANY_SPLIT).source.image_size

    def class_names(self) -> tuple[str, ...]:
        """The classes of the task."""
        return self._task(_ANY_SPLIT).source.class_names

    def open(self, split: str, on_progress: OnProgress | None = None) -> ImageSource:
        """Makes the task of a split; what its function raises passes through."""
        source = self._task(split).source
        if isinstance(source, Prefetcher):
            source = source.source  # a run has threads of its own
        count = self.counts[split]
        return source if count is None or count >= len(source) else _Some(source, count)

    def with_frames(self, num_frames: int | None) -> TaskImages:
        """The same; a task's images fit its classifier, others are checked where both meet."""
        return self

    def networks(self) -> GlanceFocusClassifier:
        """A copy of the task's classifier, as it was before it was frozen.

        Raises:
            ValueError: if the task has only the frozen one.
        """
        original = self._task(_ANY_SPLIT).classifier.original
        if original is None:
            raise ValueError(
                f"start=task, but {self.id} has only frozen networks; build the task by gfnet_env.image_folder_task, "
                "freeze them by frozen(..., keep_original=True), or pass start=RUN"
            )
        return copy.deepcopy(original)

    def _task(self, split: str) -> Task:
        return _made(TASKS[self.id].make_task, split, json.dumps(self.arguments, sort_keys=True))


@functools.lru_cache(maxsize=3)  # the splits of a run
def _made(make_task: Callable[..., Task], split: str, arguments: str) -> Task:
    return make_task(split=split, **json.loads(arguments))


class _Some(SourceView[ImageSource]):
    """Some images of a source, evenly spread."""

    def __init__(self, source: ImageSource, count: int) -> None:
        super().__init__(source)
        self._kept = torch.linspace(0, len(source) - 1, count).round().long()

    def __len__(self) -> int:
        return len(self._kept)

    def fetch(self, indices: Tensor) -> Batch:
        return self.source.fetch(self._kept[indices])

    def for_epoch(self, epoch: int) -> ImageSource:
        return _Some(self.source.for_epoch(epoch), len(self))

    def prefetch(self, indices: np.ndarray) -> None:
        self.source.prefetch(self._kept.numpy()[indices])


COLLECTIONS["task"] = TaskImages
