"""Where an untrained policy looks: at the centre first, then at places spread over the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STEPS = (0.7548776662466927, 0.5698402909980532)  # 1 / g and 1 / g^2, where g^3 = g + 1
_REACH = 0.6  # largest |action| of an initial look: tanh still has a slope there


def initial_looks(count: int) -> Tensor:
    """The first points of a low-discrepancy sequence, (0, 0) foremost.

    They are those of the additive recurrence R2 (Roberts, 2018): each new point falls where the earlier ones left room.

    Args:
        count: how many, T - 1.

    Returns:
        (count, 2) actions (row, col) in [-0.6, 0.6].
    """
    points = (0.5 + torch.arange(count)[:, None] * torch.tensor(_STEPS)) % 1.0
    return (2.0 * points - 1.0) * _REACH


def start_at_initial_looks(last: nn.Linear, num_steps: int) -> None:
    """Sets the last layer of an actor so that its mean, squashed by tanh, is `initial_looks` at each step.

    Args:
        last: its first two outputs are the location. Its last `num_steps` inputs are the one-hot of the number of
            glimpses, whose weights are thus a bias for every step; with `num_steps` 0, every look starts at the centre.
        num_steps: T, or 0 if the one-hot is not among the inputs.
    """
    with torch.no_grad():
        last.bias[:2] = 0.0
        if num_steps:
            last.weight[:2, -num_steps:] = 0.0
            last.weight[:2, -num_steps:-1] = torch.atanh(initial_looks(num_steps - 1)).T  # after T there is no look
