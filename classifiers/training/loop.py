"""One training loop for every network of the pipeline, and the four things that it trains.

`train_full_resolution` and `train_low_resolution` make the networks that f_L and f_G start from (Section 3.4),
`train_sequences` is stages I and III (Section 3.3). All of them resume after the last finished epoch: an epoch's
randomness depends on the seed and the epoch alone, so a run that was cut off ends with the same weights.

A step's images are cut into parts, each with randomness of its own; processes share the parts out, and a process goes
through its own one after the other. So the number of processes changes who computes what, not what is computed, but
for the running statistics of batch normalisation, which every process gathers on its parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from classifiers.data.loader import prefetch_batches
from classifiers.data.source import Batch, ImageSource
from classifiers.files import write_atomically
from classifiers.training.augmentation import augment
from classifiers.training.distributed import (
    average_statistics,
    is_first_process,
    mean_over_processes,
    process_count,
    process_index,
    wait_for_all,
    wrap,
)
from classifiers.training.fit_spec import OPTIMIZERS, PRECISIONS, FitSpec


class NotANumberError(RuntimeError):
    """A loss was NaN or infinite; training stopped and the last good state was kept."""


OnProgress = Callable[[int, int, dict[str, float]], None]
"""Called after every step with (steps done, steps in all, {"loss": ...})."""


LossOf = Callable[[nn.Module, Batch, torch.Generator], Tensor]
"""`loss_of(model, batch, generator)`: the mean loss of a batch; the generator is the randomness that it may use."""


def fit(
    model: nn.Module,
    groups: list[dict[str, Any]],
    loss_of: LossOf,
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

    Under `torchrun` all processes call this alike; only the first one writes and reports.

    Args:
        model: what is trained, in place; it ends in evaluation mode.
        groups: its parameter groups with their initial learning rates.
        loss_of: the loss of a batch.
        source: training images.
        spec: how long and how fast.
        seed: of the order of the images and of all else that is random; also sets torch's own generator.
        checkpoint: file to which every epoch's end is written and from which training goes on.
        on_progress: told of every step.
        on_epoch: told of every epoch's mean loss, before the checkpoint is written.
        fixed: part of the model that is kept in evaluation mode.

    Raises:
        NotANumberError: if the loss stops being a number; the checkpoint then holds the last whole epoch.
        ValueError: if the images are too few for the processes.
        OSError: if the checkpoint can't be written.
    """
    optimizer = OPTIMIZERS[spec.optimizer](groups, spec.weight_decay)
    initial_lrs = [group["lr"] for group in groups]
    done = _resume(checkpoint, model, optimizer)
    if done < spec.epochs:
        steps = _Steps(model, optimizer, loss_of, spec, seed)
        total = spec.epochs * steps.per_epoch(source)
        for epoch in range(done, spec.epochs):
            model.train()
            if fixed is not None:
                fixed.eval()
            losses: list[float] = []
            first = epoch * steps.per_epoch(source)
            for index, parts in enumerate(steps.epoch(source, epoch)):
                for group, lr in zip(optimizer.param_groups, initial_lrs, strict=True):
                    group["lr"] = lr * _schedule((first + index) / total, spec.warmup)
                loss = steps.step(parts)
                if not math.isfinite(loss):
                    raise NotANumberError(
                        f"the loss became {loss} in epoch {epoch + 1}, step {index + 1}; the state after epoch {epoch} "
                        "is kept, pass a lower learning rate"
                    )
                losses.append(loss)
                if on_progress is not None and is_first_process():
                    on_progress(first + index + 1, total, {"loss": loss})
            average_statistics(model)
            if is_first_process():
                if on_epoch is not None:
                    on_epoch(epoch + 1, {"loss": sum(losses) / len(losses)})
                if checkpoint is not None:
                    state = {"epoch": epoch + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
                    write_atomically(checkpoint, lambda path, state=state: torch.save(state, path))  # type: ignore[misc]  # default argument binds the loop variable
            wait_for_all()
    model.eval()


class _Part(NamedTuple):
    """Some of a step's images, with their share of the step and a seed of their own."""

    batch: Batch
    share: float
    seed: int


class _Steps:
    """Cuts epochs into steps and steps into parts, and takes a step."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, loss_of: LossOf, spec: FitSpec, seed: int
    ) -> None:
        self.model = wrap(model)
        self.optimizer, self.loss_of, self.spec, self.seed = optimizer, loss_of, spec, seed
        self.device = next(model.parameters()).device
        micro_batch_size = spec.micro_batch_size or math.ceil(spec.batch_size / process_count())
        self.parts = math.ceil(spec.batch_size / micro_batch_size)
        if self.parts % process_count():
            raise ValueError(
                f"a step of {self.parts} parts can't be shared by {process_count()} processes; change batch_size "
                f"({spec.batch_size}) or micro_batch_size ({spec.micro_batch_size})"
            )

    def per_epoch(self, source: ImageSource) -> int:
        """Steps in an epoch; a last one with fewer images than parts is left out."""
        whole, rest = divmod(len(source), self.spec.batch_size)
        steps = whole + (rest >= self.parts)
        if steps == 0:
            raise ValueError(
                f"{len(source)} images are too few for a step of {self.parts} parts; pass a larger micro_batch_size"
            )
        return steps

    def epoch(self, source: ImageSource, epoch: int) -> Iterator[list[_Part]]:
        """The process's own parts of every step of an epoch."""
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(_seed(self.seed, epoch)))
        steps = order.split(self.spec.batch_size)[: self.per_epoch(source)]
        own = range(process_index(), self.parts, process_count())
        plan = [(index, part, step.tensor_split(self.parts)[part]) for index, step in enumerate(steps) for part in own]
        images = source.for_epoch(epoch)
        batches = prefetch_batches(images, [indices for _, _, indices in plan], self.spec.num_workers, self.device)
        gathered: list[_Part] = []
        for (index, part, indices), batch in zip(plan, batches, strict=True):
            share = len(indices) / len(steps[index])
            gathered.append(_Part(batch, share, _seed(self.seed, epoch, index, part)))
            if len(gathered) == len(own):
                yield gathered
                gathered = []

    def step(self, parts: list[_Part]) -> float:
        """Adds up the gradients of all parts and moves the weights; returns the mean loss over all processes."""
        self.optimizer.zero_grad()
        total = 0.0
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            waits = isinstance(self.model, DistributedDataParallel) and not is_last
            with self.model.no_sync() if waits else nullcontext():  # type: ignore[operator]  # DDP's own
                loss = self._loss(part) * part.share * process_count()  # processes are averaged, parts added
                total += loss.item()
                loss.backward()  # whatever the loss: the other processes wait for it
        total = mean_over_processes(total)
        if math.isfinite(total):
            self.optimizer.step()
        return total

    def _loss(self, part: _Part) -> Tensor:
        torch.manual_seed(part.seed)  # for dropout and its like
        generator = torch.Generator().manual_seed(part.seed)
        images = part.batch.images.to(self.device, non_blocking=True)
        images = augment(images, generator, self.spec.shift_px, self.spec.flip)
        batch = part.batch._replace(images=images, labels=part.batch.labels.to(self.device))
        dtype = PRECISIONS[self.spec.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            return self.loss_of(self.model, batch, generator)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


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
