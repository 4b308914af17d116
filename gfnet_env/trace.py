"""The record of the current episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from classifiers.networks.glimpse import Readout

_WIDTH = 8  # of `Trace.looks`


@dataclass
class Trace:
    """Each row's current episode, step by step; entries from `steps` on are not used. Tensors on one device.

    Attributes:
        index: (B,) int64, which image of the source.
        label: (B,) int64.
        boxes: (B, N, 4) int64, see `classifiers.data.source.Batch`.
        steps: (B,) int64, glimpses taken, the glance counted; 0 before the first reset.
        looks: (B, T, 8) float32, one record for each glimpse, see `look_record`.
        multiply_adds: (B,) int64, spent so far, policy and reward samples not counted.
        earned: (B,) float32, sum of the rewards so far.
        stopped: (B,) bool, whether the agent ended the episode.
        finished: (B,) bool, whether the episode has ended.
        size: (B, T - 1) int64, index of each patch's size; drawn in advance unless the agent chooses them.
    """

    index: Tensor
    label: Tensor
    boxes: Tensor
    steps: Tensor
    looks: Tensor
    multiply_adds: Tensor
    earned: Tensor
    stopped: Tensor
    finished: Tensor
    size: Tensor

    @classmethod
    def empty(cls, batch_size: int, num_glimpses: int, num_boxes: int, device: torch.device) -> Trace:
        """Room for B episodes of up to T steps, on images of N boxes."""

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(batch_size, *shape, dtype=dtype, device=device)

        return cls(
            index=zeros(),
            label=zeros(),
            boxes=zeros(num_boxes, 4),
            steps=zeros(),
            looks=zeros(num_glimpses, _WIDTH, dtype=torch.float32),
            multiply_adds=zeros(),
            earned=zeros(dtype=torch.float32),
            stopped=zeros(dtype=torch.bool),
            finished=zeros(dtype=torch.bool),
            size=zeros(num_glimpses - 1),
        )

    @property
    def location(self) -> Tensor:
        """(B, T, 2) float32 in [0, 1], (row, col) of each patch; NaN for a glance."""
        return self.looks[..., :2]

    @property
    def top_left_px(self) -> Tensor:
        """(B, T, 2) int64 patch corners; (-1, -1) for a glance."""
        return self.looks[..., 2:4].long()

    @property
    def prediction(self) -> Tensor:
        """(B, T) int64."""
        return self.looks[..., 4].long()

    @property
    def confidence(self) -> Tensor:
        """(B, T) float32, the largest probability."""
        return self.looks[..., 5]

    @property
    def label_probability(self) -> Tensor:
        """(B, T) float32, the true label's."""
        return self.looks[..., 7]

    def last_look(self) -> Tensor:
        """(B, 8), the record of each row's last glimpse."""
        last = (self.steps - 1).clamp(min=0)
        return self.looks.gather(1, last[:, None, None].expand(-1, 1, _WIDTH))[:, 0]

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors, copied to the CPU, for `load_state_dict`."""
        return {name: values.cpu().clone() for name, values in vars(self).items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores what `state_dict` returned, for the same number of rows and steps."""
        for name, values in vars(self).items():
            values.copy_(check_shape(state[name], values.shape))


def look_record(place: Tensor, found: Readout) -> Tensor:
    """One row of `Trace.looks` for each of R glimpses.

    Args:
        place: (R, 4) float32, location (row, col) and corner (top, left) in pixels; NaN and -1 for a glance.
        found: what the classifier says, with the true labels' probabilities.

    Returns:
        (R, 8) float32: the place, prediction, confidence, entropy and label probability; all whole numbers are exact.
    """
    assert found.label_probability is not None
    said = found.prediction.float(), found.confidence, found.entropy, found.label_probability
    return torch.cat([place, torch.stack(said, dim=1)], dim=1)


def check_shape(saved: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of a saved state, or a `ValueError` if its shape is not the environment's."""
    if tuple(saved.shape) != tuple(shape):
        raise ValueError(
            f"a saved tensor has shape {tuple(saved.shape)}, this environment needs {tuple(shape)}; load the state "
            "into an environment with the same num_envs, rules and networks"
        )
    return saved
