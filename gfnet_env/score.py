"""Scores that are comparable between tasks: 0 for random places, 1 for a reference that knows where to look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from torch import Tensor

Value = TypeVar("Value", float, np.ndarray, Tensor)


@dataclass(frozen=True)
class ScoreScale:
    """What random places and the reference policy reach on a task.

    Attributes:
        random: of `agents.policies.baselines.RandomPolicy`.
        reference: of `agents.policies.baselines.ReferencePolicy`, above or below `random`, not equal to it.
        of: what both are: `"accuracy"` of the last prediction, in [0, 1], or `"return"`, the mean sum of rewards.

    Raises:
        ValueError: if both are equal.
    """

    random: float
    reference: float
    of: Literal["accuracy", "return"] = "accuracy"

    def __post_init__(self) -> None:
        if self.random == self.reference:
            raise ValueError(f"random and reference are both {self.random}; pass two numbers that differ")

    def score(self, value: Value) -> Value:
        """(value - random) / (reference - random): 0 for random places, 1 for the reference.

        Args:
            value: an accuracy or a return, as `of` says, or an array or tensor of them.
        """
        return (value - self.random) / (self.reference - self.random)
