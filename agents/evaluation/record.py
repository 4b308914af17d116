"""What is kept of an evaluation, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from classifiers.files import write_atomically


@dataclass(frozen=True)
class EvaluationRecord:
    """All that is kept of N episodes of T steps; never the (N, T, K) probabilities.

    Attributes:
        label: (N,) int64.
        box: (N, 4) int64, see `classifiers.data.source.Batch`.
        prediction: (N, T) int64.
        confidence: (N, T) float32, the largest probability.
        entropy: (N, T) float32, of the prediction, in nats.
        label_probability: (N, T) float32.
        location: (N, T - 1, 2) float32, where each patch lay, in [0, 1].
        multiply_adds: (T,) int64, what the first 1 to T steps cost together: t looks and t - 1 decisions.
        patch_size: side of the patches in pixels.
        image_size: (H, W) in pixels.
        networks: fingerprint of the networks and the policy that looked; empty if unknown.
    """

    label: np.ndarray
    box: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    entropy: np.ndarray
    label_probability: np.ndarray
    location: np.ndarray
    multiply_adds: np.ndarray
    patch_size: int
    image_size: tuple[int, int]
    networks: str = ""


def save_record(path: Path, record: EvaluationRecord) -> None:
    """Writes a record, whole or not at all."""
    arrays = {
        name: np.ascontiguousarray(value) for name, value in vars(record).items() if isinstance(value, np.ndarray)
    }
    sizes = {"patch_size": record.patch_size, "image_size": record.image_size, "networks": record.networks}
    write_atomically(path, lambda temporary: save_file(arrays, temporary, {"sizes": json.dumps(sizes)}))


def load_record(path: Path) -> EvaluationRecord:
    """Reads a record that `save_record` wrote.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a whole record.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; run `gfnet evaluate` on the run first")
    try:
        with safe_open(path, framework="numpy") as file:
            sizes = json.loads(file.metadata()["sizes"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or no record; run `gfnet evaluate` on the run again") from error
    if "multiply_adds" not in arrays:
        raise ValueError(f"{path} is of an earlier version; run `gfnet evaluate` on the run again")
    height, width = sizes["image_size"]
    return EvaluationRecord(
        **arrays, patch_size=sizes["patch_size"], image_size=(height, width), networks=sizes.get("networks", "")
    )
