"""The record of an evaluation, and its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from classifiers.networks.size_histories import count_steps, node_of
from classifiers.tensor_files import fitting, read_tensors, write_tensors

_RECORD = "gfnet-record"


@dataclass(frozen=True)
class EvaluationRecord:
    """The outcome for N images at all nodes of `classifiers.networks.size_histories`, without class probabilities.

    With one patch size the nodes are the T steps of an episode.

    Attributes:
        label: (N,) int64.
        boxes: (N, M, 4) int64, M boxes for each image, see `classifiers.data.source.Batch`.
        prediction: (N, nodes) int64.
        confidence: (N, nodes) float32, the largest probability.
        entropy: (N, nodes) float32, of the prediction, in nats.
        label_probability: (N, nodes) float32.
        location: (N, nodes - 1, 2) float32, where the last patch of each node but the glance lay, in [0, 1].
        multiply_adds: (nodes,) int64, cost of all looks of a node, with a decision before each but the first.
        patch_sizes: (K,) sides of the patches in pixels, ascending.
        image_size: (H, W) in pixels.
    """

    label: np.ndarray
    boxes: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    entropy: np.ndarray
    label_probability: np.ndarray
    location: np.ndarray
    multiply_adds: np.ndarray
    patch_sizes: tuple[int, ...]
    image_size: tuple[int, int]

    @property
    def num_steps(self) -> int:
        """T, the glance included."""
        return count_steps(len(self.multiply_adds), len(self.patch_sizes))

    @property
    def largest_patches(self) -> list[int]:
        """The nodes of the T steps of an episode with patches of the largest size."""
        sizes = len(self.patch_sizes)
        return [node_of((sizes - 1,) * looks, sizes) for looks in range(self.num_steps)]


def save_record(path: Path | str, record: EvaluationRecord) -> None:
    """Writes a record, whole or not at all.

    Raises:
        OSError: if the file can't be written.
    """
    arrays = {name: value for name, value in vars(record).items() if isinstance(value, np.ndarray)}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    facts = {"patch_sizes": list(record.patch_sizes), "image_size": record.image_size}
    write_tensors(Path(path), _RECORD, facts, tensors)


def load_record(path: Path | str) -> EvaluationRecord:
    """Reads a record that `save_record` wrote.

    Raises:
        CheckpointError: if it is damaged or not a record.
        FileNotFoundError: if there is none.
        OSError: if it can't be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; run `gfnet evaluate` on the run first")
    facts, tensors = read_tensors(path, _RECORD)
    with fitting(path):
        height, width = facts["image_size"]
        return EvaluationRecord(
            **{name: tensor.numpy().copy() for name, tensor in tensors.items()},
            patch_sizes=tuple(facts["patch_sizes"]),
            image_size=(height, width),
        )
