"""Stand-ins for the checkpoints of TSM's authors; `published_weights` has the rule by which their weights are filled.

The JSON file holds every key and shape of a checkpoint, and what the authors' code put out for such weights.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published_weights import fill
from published_weights import recorded as recorded_gfnet
from torch import Tensor


def recorded() -> dict[str, Any]:
    """The JSON file of ResNet-50 with 8 frames."""
    record: dict[str, Any] = json.loads((Path(__file__).parent / "tsm" / "resnet50_8.json").read_text())
    return record


def checkpoint(record: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """What the authors' file would hold."""
    gains = [(re.compile(pattern), gain) for pattern, gain in recorded_gfnet("resnet50")["fill"]["gains"]]
    return {"state_dict": {key: fill(name, shape, gains) for key, shape, _, name in record["keys"]}}


def make_clips(record: dict[str, Any]) -> Tensor:
    """Two normalized clips: white noise on an 8x8 grid of constant blocks."""
    side = record["image_size"]
    rng = np.random.Generator(np.random.PCG64(77))
    noise = rng.standard_normal((2, record["segments"], 3, side, side))
    blocks = rng.standard_normal((2, record["segments"], 3, 8, 8)).repeat(side // 8, axis=3).repeat(side // 8, axis=4)
    return torch.from_numpy((0.5 * noise + blocks).astype(np.float32))
