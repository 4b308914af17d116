"""States of environments that are saved and restored: plain tensors and numbers, read without executing code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor


def of_shape(saved: Tensor, shape: Sequence[int]) -> Tensor:
    """A saved tensor, if it fits.

    Args:
        saved: the tensor.
        shape: what it must have.

    Returns:
        The tensor itself.

    Raises:
        ValueError: if its shape is another.
    """
    if tuple(saved.shape) != tuple(shape):
        raise ValueError(
            f"a saved tensor has shape {tuple(saved.shape)}, this environment needs {tuple(shape)}; load the state "
            "into an environment with the same num_envs, rules and networks"
        )
    return saved


def generator_states(generators: Sequence[np.random.Generator]) -> list[dict[str, Any]]:
    """The states of random generators, as dicts of numbers and strings."""
    return [dict(generator.bit_generator.state) for generator in generators]


def load_generator_states(generators: Sequence[np.random.Generator], states: Sequence[dict[str, Any]]) -> None:
    """Puts random generators into the states that `generator_states` returned.

    Args:
        generators: as many as there are states, of the same kind.
        states: their states.

    Raises:
        ValueError: if their numbers or kinds differ.
    """
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state
