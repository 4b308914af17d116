"""Training settings of a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from classifiers.checks import check_fraction, check_known, check_least

OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]] = {
    "sgd": lambda groups, decay: torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=decay),
    "adamw": lambda groups, decay: torch.optim.AdamW(groups, weight_decay=decay),
}
"""Optimisers by name; the paper's is `sgd` with Nesterov momentum 0.9 (A.3)."""


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Number formats for training, by name."""

PARTS = ("global_encoder", "local_encoder", "head")
"""The parts of a classifier, f_G, f_L and f_C, by the names of its modules."""


@dataclass(frozen=True, kw_only=True)
class FitSpec:
    """How long and how fast to train; the learning rates follow a cosine to zero (A.3).

    Attributes:
        epochs: passes over the training images; 0 skips the training.
        batch_size: images per step.
        lr: initial learning rate of the encoders.
        head_lr: initial learning rate of the head f_C; None takes `lr`.
        global_lr: initial learning rate of f_G; None takes `lr`, 0 freezes f_G.
        frozen: of `PARTS`, those that stages I and III don't train: they run in evaluation mode, so that the statistics
            of their normalisations stay, too. A.4 trains f_C alone, which costs the encoders' forward passes only.
        weight_decay: L2 coefficient (decoupled for `adamw`).
        optimizer: a key of `OPTIMIZERS`.
        regularization: lambda of Eq. (6).
        warmup: fraction of all steps over which the learning rates rise linearly, in [0, 1).
        shift_px: largest random shift in each direction, in pixels; borders are filled by reflection.
        flip: whether images are flipped left to right at random.
        zoom: largest factor by which images are enlarged or reduced at random, 1 or more.
        rotation: largest random rotation either way, in degrees in [0, 180].
        color_jitter: largest random relative change of brightness, contrast and saturation, in [0, 1).
        micro_batch_size: most images in one forward pass; gradients are accumulated over a step's micro-batches. None
            takes the whole batch, divided evenly among the processes.
        precision: `"float32"`, or `"bfloat16"` for mixed precision.
        freeze_statistics: whether batch normalisations keep their mean and variance, such as those of pretrained
            weights, instead of taking each batch's. Best where few images fine-tune a pretrained network.
        object_share: fraction of stage I's random patches that lie near the object, where a network knows its class
            (the config's `objects`).
        num_workers: processes that prefetch images; 0 loads them in the main process, best for images in memory.
    """

    epochs: int
    batch_size: int = 256
    lr: float = 0.01
    head_lr: float | None = None
    global_lr: float | None = None
    weight_decay: float = 1e-4
    optimizer: str = "sgd"
    regularization: float = 1.0
    warmup: float = 0.0
    shift_px: int = 0
    flip: bool = False
    zoom: float = 1.0
    rotation: float = 0.0
    color_jitter: float = 0.0
    micro_batch_size: int | None = None
    precision: str = "float32"
    freeze_statistics: bool = False
    object_share: float = 0.5
    num_workers: int = 0
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_known("precision", self.precision, PRECISIONS)
        check_known("optimizer", self.optimizer, OPTIMIZERS)
        for part in self.frozen:
            check_known("frozen", part, PARTS)
        check_least(self, 1, "batch_size", "micro_batch_size")
        check_least(self, 0, "epochs", "shift_px", "num_workers")
        check_least(self, 0, "lr", "head_lr", "global_lr", "weight_decay", "regularization")
        check_fraction(self, "object_share")
        for name in ("warmup", "color_jitter"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; pass a fraction in [0, 1)")
        if not 1 <= self.zoom < math.inf:
            raise ValueError(f"zoom={self.zoom}; pass the largest factor, 1 (none) or more")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation={self.rotation}; pass degrees in [0, 180]")

    @property
    def augmentation(self) -> dict[str, Any]:
        """The arguments of `classifiers.training.augmentation.augment`."""
        return {name: getattr(self, name) for name in ("shift_px", "flip", "zoom", "rotation", "color_jitter")}
