"""Size histories: the order in which everything that depends on the sizes of the patches so far is kept (Section 4.2).

A history is the tuple of the size indices of the patches seen since the glance; () after the glance alone. With K sizes
the histories of T steps are a full K-ary tree, numbered breadth-first: (), (0,), ..., (K - 1,), (0, 0), ... T = 4 and
K = 3 make 40 nodes. The patch of size k after node i leads to node `K i + 1 + k`. With one size a node is a step.
"""

from __future__ import annotations

import itertools

import numpy as np


def size_histories(num_sizes: int, num_steps: int) -> list[tuple[int, ...]]:
    """All histories of an episode, in the order of their nodes.

    Args:
        num_sizes: K.
        num_steps: T, the glance included.

    Returns:
        1 + K + ... + K^(T - 1) tuples.
    """
    sizes = range(num_sizes)
    return [history for length in range(num_steps) for history in itertools.product(sizes, repeat=length)]


def count_steps(num_nodes: int, num_sizes: int) -> int:
    """The number of steps T of a tree.

    Args:
        num_nodes: of all its histories.
        num_sizes: K.

    Returns:
        T.

    Raises:
        ValueError: if no T has so many histories.
    """
    steps, counted = 0, 0
    while counted < num_nodes and num_sizes > 0:
        counted += num_sizes**steps
        steps += 1
    if counted != num_nodes or not num_nodes:
        raise ValueError(
            f"{num_nodes} nodes are no tree of {num_sizes} patch sizes; pass 1 + K + ... + K^(T - 1) of them"
        )
    return steps


def node_of(history: tuple[int, ...], num_sizes: int) -> int:
    """The node of a history.

    Args:
        history: size indices, 0 to K - 1.
        num_sizes: K.

    Returns:
        Its place in `size_histories`.
    """
    node = 0
    for size in history:
        node = node * num_sizes + 1 + size
    return node


def mean_by_step(values: np.ndarray, num_sizes: int) -> np.ndarray:
    """The mean over the histories of each step: what is expected of sizes that are drawn at random.

    Args:
        values: (nodes,) a number for each history, in the order of their nodes.
        num_sizes: K.

    Returns:
        (T,) float64.

    Raises:
        ValueError: if no T has so many histories.
    """
    counts = [num_sizes**looks for looks in range(count_steps(len(values), num_sizes))]
    means: np.ndarray = np.add.reduceat(np.asarray(values, np.float64), np.cumsum([0, *counts[:-1]])) / counts
    return means
