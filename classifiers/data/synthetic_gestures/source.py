"""Drawn clips as a collection and as a source: each is drawn when it is fetched, which takes as long as decoding."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from classifiers.data.collection import Count, ImageCollection, OnProgress, check_clips_are_wanted
from classifiers.data.loading import map_threads
from classifiers.data.source import Batch, ImageSource, batch_without_boxes
from classifiers.data.synthetic_gestures.clips import (
    CLASS_NAMES,
    NUM_FRAMES,
    Gesture,
    GestureSpec,
    draw_gesture,
)


class GestureClips(ImageSource):
    """The first clips of a split; a clip is drawn when it is fetched, which takes as long as decoding.

    Args:
        spec: what they look like.
        split: one of `classifiers.data.synthetic_gestures.clips.SPLITS`.
        count: how many, N.

    Raises:
        ValueError: if there is none.
    """

    class_names = CLASS_NAMES
    num_frames = NUM_FRAMES
    decodes_files = True

    def __init__(self, spec: GestureSpec, split: str, count: int) -> None:
        if count < 1:
            raise ValueError(f"count={count}; pass 1 clip or more")
        self.spec, self.split, self.count = spec, split, count
        self.image_size = (spec.height, spec.width)

    def __len__(self) -> int:
        return self.count

    def fetch(self, indices: Tensor) -> Batch:
        """See `ImageSource.fetch`; a box holds the red disc in all frames of its clip."""
        drawn: list[Gesture] = list(map_threads(self.draw, indices.tolist()))
        boxes = np.stack([np.append(one.boxes[:, :2].min(axis=0), one.boxes[:, 2:].max(axis=0)) for one in drawn])
        batch = batch_without_boxes(np.stack([one.frames for one in drawn]), torch.tensor([one.label for one in drawn]))
        return batch._replace(boxes=torch.from_numpy(boxes))

    def draw(self, index: int) -> Gesture:
        """One clip, with the red disc's box in every frame."""
        return draw_gesture(self.spec, self.split, index)


class SyntheticGestures(ImageCollection):
    """The built-in task's drawn clips.

    Attributes:
        num_train: clips of `"train"`.
        num_val: clips of `"val"`.
        num_test: clips of `"test"`.
        gestures: what they look like.
    """

    kind: Literal["synthetic_gestures"] = "synthetic_gestures"
    num_train: Count
    num_val: Count
    num_test: Count
    gestures: GestureSpec = GestureSpec()

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.gestures.height, self.gestures.width

    def class_names(self) -> tuple[str, ...]:
        """How the stripes of the red disc move."""
        return CLASS_NAMES

    def open(self, split: str, on_progress: OnProgress | None = None) -> GestureClips:
        """The clips of a split; each is drawn when it is looked at."""
        return GestureClips(self.gestures, split, self.counts[split] or 1)

    def with_frames(self, num_frames: int | None) -> Self:
        """The same; drawn clips have `NUM_FRAMES`."""
        if check_clips_are_wanted(num_frames) != NUM_FRAMES:
            raise ValueError(
                f"the data are clips of {NUM_FRAMES} frames, the encoder takes {num_frames}; pass an encoder such as "
                f"tsm{NUM_FRAMES}:small_resnet"
            )
        return self
