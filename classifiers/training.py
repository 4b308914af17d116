"""One training loop for every network of the pipeline, and the four things that it trains.

`train_full_resolution` and `train_low_resolution` make the networks that f_L and f_G start from (Section 3.4),
`train_sequences` is stages I and III (Section 3.3). All of them resume after the last finished epoch: an epoch's
randomness depends on the seed and the epoch alone, so a run that was cut off ends with the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from classifiers.atomic_files import write_atomically
from classifiers.augmentation import augment
from classifiers.datasets.image_source import Batch, ImageSource, batches
from classifiers.glance_focus import FullResolutionNetwork, GlanceFocusClassifier, Glimpse, Locator
from classifiers.losses import sequence_loss

OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]] = {
    "sgd": lambda groups, decay: torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=decay),
    "adamw": lambda groups, decay: torch.optim.AdamW(groups, weight_decay=decay),
}
"""Optimisers by name; the paper's is `sgd` with Nesterov momentum 0.9 (A.3)."""


class NotANumberError(RuntimeError):
    """A loss was NaN or infinite; training stopped and the last good state was kept."""


@dataclass(frozen=True, kw_only=True)
class FitSpec:
    """How long and how fast to train; the learning rates follow a cosine to zero (A.3).

    Attributes:
        epochs: times through the training images; 0 skips the training.
        batch_size: images in a step.
        lr: initial learning rate of the encoders.
        head_lr: initial learning rate of the head f_C; None takes `lr`.
        global_lr: initial learning rate of f_G; None takes `lr`, 0 leaves f_G as it is.
        weight_decay: L2 coefficient (decoupled for `adamw`).
        optimizer: a key of `OPTIMIZERS`.
        regularization: lambda of Eq. (6).
        warmup: share of all steps over which the learning rates rise linearly.
        shift_px: images are shifted by up to so many pixels each way; the border is filled by reflection.
        flip: half of the images are mirrored left to right.
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

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={self.optimizer!r} is unknown; pass one of {', '.join(OPTIMIZERS)}")
        if self.epochs < 0 or self.batch_size < 1:
            raise ValueError(f"epochs={self.epochs}, batch_size={self.batch_size}; pass epochs >= 0, batch_size >= 1")
        for name in ("lr", "head_lr", "global_lr", "weight_decay", "regularization"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}; pass a number of at least 0")
        if self.shift_px < 0:
            raise ValueError(f"shift_px={self.shift_px}; pass 0 or more pixels")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup={self.warmup}; pass a share of all steps, from 0 to below 1")


OnProgress = Callable[[int, int, dict[str, float]], None]
"""Called after every step with (steps done, steps in all, {"loss": ...})."""


def train_full_resolution(
    network: FullResolutionNetwork, source: ImageSource, spec: FitSpec, **loop: Any
) -> FullResolutionNetwork:
    """Trains an ordinary classification network, at the images' own size or resized (`network.size`), in place.

    Args:
        network: the network.
        source: training images.
        spec: how long and how fast.
        **loop: see `fit`.

    Returns:
        The network.

    Raises:
        NotANumberError: if the loss stops being a number.
    """
    groups = [{"params": list(network.parameters()), "lr": spec.lr}]
    fit(
        network,
        groups,
        lambda batch, _: functional.cross_entropy(network(batch.images), batch.labels),
        source,
        spec,
        **loop,
    )
    return network


def train_sequences(
    classifier: GlanceFocusClassifier, locator: Locator | None, source: ImageSource, spec: FitSpec, **loop: Any
) -> GlanceFocusClassifier:
    """Stages I and III: trains f_G, f_L and f_C along whole episodes with Eq. (6), in place.

    Args:
        classifier: the networks.
        locator: the fixed policy of stage III; None crops at random, stage I.
        source: training images.
        spec: how long and how fast.
        **loop: see `fit`.

    Returns:
        The classifier.

    Raises:
        NotANumberError: if the loss stops being a number.
    """
    global_lr = spec.lr if spec.global_lr is None else spec.global_lr
    groups: list[dict[str, Any]] = [
        {"params": list(classifier.local_encoder.parameters()), "lr": spec.lr},
        {"params": list(classifier.head.parameters()), "lr": spec.lr if spec.head_lr is None else spec.head_lr},
        {"params": list(classifier.global_encoder.parameters()), "lr": global_lr},
    ]
    trained = [group for group in groups if group["lr"] > 0 and group["params"]]

    def loss_of(batch: Batch, generator: torch.Generator) -> Tensor:
        predictions = classifier(batch.images, locator or random_locator(generator))
        return sequence_loss(predictions, batch.labels, spec.regularization)

    fixed = classifier.global_encoder if global_lr == 0 else None
    fit(classifier, trained, loss_of, source, spec, fixed=fixed, **loop)
    return classifier


def random_locator(generator: torch.Generator) -> Locator:
    """Locations drawn uniformly over the image (stage I, Section 3.3)."""

    def locate(glimpse: Glimpse, state: None) -> tuple[Tensor, None]:
        return torch.rand(len(glimpse.logits), 2, generator=generator).to(glimpse.logits.device), state

    return locate


def fit(
    model: nn.Module,
    groups: list[dict[str, Any]],
    loss_of: Callable[[Batch, torch.Generator], Tensor],
    source: ImageSource,
    spec: FitSpec,
    *,
    seed: int,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    fixed: nn.Module | None = None,
) -> None:
    """Trains a model, epoch by epoch, resuming from its checkpoint where there is one.

    Args:
        model: what is trained, in place; it ends in evaluation mode.
        groups: its parameter groups with their initial learning rates.
        loss_of: the loss of a batch; the generator is the only randomness that it may use.
        source: training images.
        spec: how long and how fast.
        seed: of the order of the images and of all else that is random.
        checkpoint: file to which every epoch's end is written and from which training goes on.
        on_progress: told of every step.
        on_epoch: told of every epoch's mean loss, before the checkpoint is written.
        fixed: part of the model that is kept in evaluation mode.

    Raises:
        NotANumberError: if the loss stops being a number; the checkpoint then holds the last whole epoch.
        OSError: if the checkpoint can't be written.
    """
    optimizer = OPTIMIZERS[spec.optimizer](groups, spec.weight_decay)
    initial_lrs = [group["lr"] for group in groups]
    device = next(model.parameters()).device
    steps_per_epoch = math.ceil(len(source) / spec.batch_size)
    total = spec.epochs * steps_per_epoch
    for epoch in range(_resume(checkpoint, model, optimizer), spec.epochs):
        generator = torch.Generator().manual_seed(hash((seed, epoch)) % 2**63)
        model.train()
        if fixed is not None:
            fixed.eval()
        losses: list[float] = []
        for index, batch in enumerate(batches(source, spec.batch_size, generator)):
            step = epoch * steps_per_epoch + index
            for group, lr in zip(optimizer.param_groups, initial_lrs, strict=True):
                group["lr"] = lr * _schedule(step / total, spec.warmup)
            images = augment(batch.images.to(device, non_blocking=True), generator, spec.shift_px, spec.flip)
            loss = loss_of(batch._replace(images=images, labels=batch.labels.to(device)), generator)
            if not math.isfinite(value := loss.item()):
                raise NotANumberError(
                    f"the loss became {value} in epoch {epoch + 1}, step {index + 1}; the state after epoch {epoch} is "
                    "kept, pass a lower learning rate"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(value)
            if on_progress is not None:
                on_progress(step + 1, total, {"loss": value})
        if on_epoch is not None:
            on_epoch(epoch + 1, {"loss": sum(losses) / len(losses)})
        if checkpoint is not None:
            state = {"epoch": epoch + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            write_atomically(checkpoint, lambda path, state=state: torch.save(state, path))  # type: ignore[misc]  # default argument binds the loop variable
    model.eval()


def _schedule(progress: float, warmup: float) -> float:
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))


def _resume(checkpoint: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Loads the last whole epoch, if any; returns how many are done."""
    if checkpoint is None or not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"])
