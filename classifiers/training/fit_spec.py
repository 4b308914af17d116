"""Training settings of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from classifiers.settings import ONE_OR_SEVERAL, Fraction, Settings, one_of

OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]] = {
    "sgd": lambda groups, decay: torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=decay),
    "adamw": lambda groups, decay: torch.optim.AdamW(groups, weight_decay=decay),
}
"""Optimizers by name; the paper's is `sgd` with Nesterov momentum 0.9 (A.3)."""


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Number formats for training, by name."""

PARTS = ("global_encoder", "local_encoder", "head")
"""The parts of a classifier, f_G, f_L and f_C, by the names of its modules."""


Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0)]


class FitSpec(Settings):
    """How long and how fast to train; the learning rates follow a cosine to zero (A.3).

    Attributes:
        epochs: passes over the training images; 0 skips the training.
        min_steps: with few images, more epochs are taken until there are at least this many steps; None takes `epochs`.
            In a config, `epochs` that are given later, by `--set` or beside `extends`, count alone.
        batch_size: images per step.
        lr: initial learning rate of the encoders.
        head_lr: initial learning rate of the head f_C; None takes `lr`.
        global_lr: initial learning rate of f_G; None takes `lr`, 0 freezes f_G.
        frozen: of `PARTS`, those that stages I and III don't train: they run in evaluation mode, so that the statistics
            of their normalizations stay, too. A.4 trains f_C alone, which costs the encoders' forward passes only.
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
            takes the whole batch, divided evenly among the processes, or as much of it as fits into memory.
        precision: `"float32"`, or `"bfloat16"` for mixed precision.
        freeze_statistics: whether batch normalizations keep their mean and variance, such as those of pretrained
            weights, instead of taking each batch's. Best where few images fine-tune a pretrained network.
        frozen_stride: the encoders' layers up to their maps of this stride, in pixels, keep their weights and
            statistics, as is usual where few photos fine-tune a pretrained network; their backward passes are saved.
            None trains all layers, as the paper does.
        object_share: fraction of stage I's random patches that lie near the object, where a network knows its class
            (the config's `objects`).
        num_workers: processes that prefetch images; 0 loads them in the main process, best for images in memory.
    """

    epochs: Count
    min_steps: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 256
    lr: Rate = 0.01
    head_lr: Rate | None = None
    global_lr: Rate | None = None
    weight_decay: Rate = 1e-4
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = "sgd"
    regularization: Rate = 1.0
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shift_px: Count = 0
    flip: bool = False
    zoom: Annotated[float, Field(ge=1)] = 1.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    color_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    precision: Annotated[str, one_of(PRECISIONS)] = "float32"
    freeze_statistics: bool = False
    frozen_stride: Literal[4, 8, 16, 32] | None = None
    object_share: Fraction = 0.5
    num_workers: Count = 0
    frozen: Annotated[tuple[Annotated[str, one_of(PARTS)], ...], ONE_OR_SEVERAL] = ()

    def num_epochs(self, steps_per_epoch: int) -> int:
        """`epochs`, or as many as `min_steps` needs if that is more; 0 without a training."""
        needed = -(-(self.min_steps or 0) // steps_per_epoch)
        return max(self.epochs, needed) if self.epochs else 0

    @property
    def augmentation(self) -> dict[str, Any]:
        """The arguments of `classifiers.training.augmentation.augment`."""
        return {name: getattr(self, name) for name in ("shift_px", "flip", "zoom", "rotation", "color_jitter")}
