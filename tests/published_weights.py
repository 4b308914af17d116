"""Stand-ins for the published checkpoints: the rule by which `tests/published/*.json` were made, without the weights.

Each JSON file holds every key and shape of one published file, and what the authors' code put out when its weights were
filled by this rule (NumPy's PCG64, seeded with the CRC-32 of "<entry>/<key>") and its input made by `make_input`.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

NAMES = ("densenet121", "efficientnet_b2", "mobilenetv3_large_100", "regnety_600m", "resnet50")


def recorded(name: str) -> dict[str, Any]:
    """The JSON file of one model."""
    record: dict[str, Any] = json.loads((Path(__file__).parent / "published" / f"{name}.json").read_text())
    return record


def checkpoint(record: dict[str, Any]) -> dict[str, Any]:
    """What the published file would hold."""
    gains = [(re.compile(pattern), gain) for pattern, gain in record["fill"]["gains"]]
    content: dict[str, Any] = {"model_name": record["model_name"], "patch_size": record["patch_size"]}
    for entry, keys in record["keys"].items():
        content[entry] = {key: fill(f"{entry}/{key}", shape, gains) for key, shape, _ in keys}
    return content


def make_input(record: dict[str, Any]) -> Tensor:
    """Two normalized images: white noise on an 8x8 grid of constant blocks."""
    side = record["image_size"]
    noise = np.random.Generator(np.random.PCG64(1234)).standard_normal((2, 3, side, side))
    cell = -(-side // 8)
    blocks = np.repeat(np.repeat(noise[:, :, :8, :8], cell, axis=2), cell, axis=3)
    return torch.from_numpy((0.5 * noise + blocks[:, :, :side, :side]).astype(np.float32))


def fill(name: str, shape: list[int], gains: list[tuple[re.Pattern[str], float]]) -> Tensor:
    """The weight of a name, `<entry>/<key>`."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    gain = next((gain for pattern, gain in gains if pattern.search(name)), 1.0)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if leaf == "running_var":
        values = rng.uniform(0.8, 1.2, shape)
    elif leaf == "running_mean" or leaf.startswith("bias"):
        values = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 1:
        values = gain * rng.uniform(0.8, 1.2, shape)
    else:
        fan_in = math.prod(shape[1:])
        values = rng.standard_normal(shape)
        if fan_in > 64:
            values -= values.reshape(shape[0], -1).mean(axis=1).reshape(-1, *[1] * (len(shape) - 1))
        values *= gain * math.sqrt((1.0 if leaf.startswith("weight_") else 2.0) / fan_in)
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
