"""The record of the current episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Trace:
    """Each row's current episode, step by step; entries from `steps` on are not used.

    Attributes:
        index: (B,) int64, which image of the source.
        label: (B,) int64.
        boxes: (B, N, 4) int64, see `classifiers.data.source.Batch`.
        steps: (B,) int64, glimpses taken, the glance counted; 0 before the first reset.
        location: (B, T, 2) float32 in [0, 1], (row, col) of each patch; NaN for a glance.
        top_left_px: (B, T, 2) int64 patch corners; (-1, -1) for a glance.
        prediction: (B, T) int64.
        confidence: (B, T) float32, the largest probability.
        entropy: (B, T) float32, of the prediction, in nats.
        label_probability: (B, T) float32, the true label's.
        multiply_adds: (B,) int64, spent so far, policy and reward samples not counted.
        earned: (B,) float64, sum of the rewards so far.
        stopped: (B,) bool, whether the agent ended the episode.
        size: (B, T - 1) int64, index of each patch's size; drawn in advance unless the agent chooses them.
    """

    index: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    steps: np.ndarray
    location: np.ndarray
    top_left_px: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    entropy: np.ndarray
    label_probability: np.ndarray
    multiply_adds: np.ndarray
    earned: np.ndarray
    stopped: np.ndarray
    size: np.ndarray

    @classmethod
    def empty(cls, batch_size: int, num_glimpses: int, num_boxes: int = 1) -> Trace:
        """Room for B episodes of up to T steps, on images of N boxes."""
        by_row, by_step = (batch_size,), (batch_size, num_glimpses)
        return cls(
            index=np.zeros(by_row, np.int64),
            label=np.zeros(by_row, np.int64),
            boxes=np.zeros((batch_size, num_boxes, 4), np.int64),
            steps=np.zeros(by_row, np.int64),
            location=np.full((*by_step, 2), np.nan, np.float32),
            top_left_px=np.full((*by_step, 2), -1, np.int64),
            prediction=np.zeros(by_step, np.int64),
            confidence=np.zeros(by_step, np.float32),
            entropy=np.zeros(by_step, np.float32),
            label_probability=np.zeros(by_step, np.float32),
            multiply_adds=np.zeros(by_row, np.int64),
            earned=np.zeros(by_row, np.float64),
            stopped=np.zeros(by_row, bool),
            size=np.zeros((batch_size, num_glimpses - 1), np.int64),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """All arrays as tensors, for `load_state_dict`."""
        return {name: torch.from_numpy(values.copy()) for name, values in vars(self).items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` returned, for the same number of rows and steps."""
        for name, values in vars(self).items():
            values[...] = check_shape(state[name], values.shape).numpy()


def check_shape(saved: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of a saved state, or a `ValueError` if its shape is not the environment's."""
    if tuple(saved.shape) != tuple(shape):
        raise ValueError(
            f"a saved tensor has shape {tuple(saved.shape)}, this environment needs {tuple(shape)}; load the state "
            "into an environment with the same num_envs, rules and networks"
        )
    return saved
