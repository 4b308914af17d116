"""One training loop for every network of the pipeline.

It resumes after the last finished epoch. An epoch's randomness depends on the seed and the epoch alone, so an
interrupted training ends with the same weights as an uninterrupted one.

The images of a step are split into micro-batches, each with its own random numbers: as few as fit into memory, unless
`FitSpec.micro_batch_size` says otherwise. A training that resumes keeps their number. They are divided among the
processes, and each process accumulates the gradients of its own. The number of processes therefore does not change the
result, except for the running statistics of batch normalization, which each process collects on its own micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from classifiers.data.loading import EpochLoader
from classifiers.data.source import Batch, ImageSource
from classifiers.networks.encoders import Encoder
from classifiers.networks.folding import folded_statistics
from classifiers.tensor_files import read_torch, write_torch
from classifiers.training.distributed import (
    average_statistics,
    is_first_process,
    largest_over_processes,
    mean_over_processes,
    process_count,
    process_index,
    wait_for_all,
    wrap,
)
from classifiers.training.fit_spec import OPTIMIZERS, PRECISIONS, FitSpec
from classifiers.training.memory import fitting_parts


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; training stopped and the last good state was kept."""


OnProgress = Callable[[int, int, dict[str, float]], None]
"""Called after every step with (steps done, total steps, {"loss": ...})."""


LossOf = Callable[[nn.Module, Batch, torch.Generator], Tensor]
"""`loss_of(model, batch, generator)`: the mean loss of a batch; all random numbers come from the generator."""


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
    frozen: Sequence[nn.Module] = (),
) -> None:
    """Trains a model, epoch by epoch, resuming from its checkpoint if there is one.

    Under `torchrun` every process calls this; only the first one writes and reports.

    Args:
        model: trained in place; in evaluation mode afterwards.
        groups: its parameter groups with their initial learning rates.
        loss_of: the loss of a batch.
        source: training images.
        spec: the training settings.
        seed: of the order of the images and all other randomness; also seeds torch's global generator.
        checkpoint: file that is written after every epoch and resumed from.
        on_progress: called after every step.
        on_epoch: called with every epoch's mean loss, before the checkpoint is written.
        frozen: parts of the model that stay as they are, in evaluation mode, beside the early layers of
            `spec.frozen_stride`.

    Raises:
        NonFiniteLossError: if the loss becomes NaN or infinite; the checkpoint then holds the last complete epoch.
        CheckpointError: if the checkpoint is damaged.
        ValueError: if the micro-batches or the images can't be divided among the processes, or an encoder lacks maps of
            `spec.frozen_stride`.
        OSError: if the checkpoint can't be written.
    """
    optimizer = OPTIMIZERS[spec.optimizer](groups, spec.weight_decay)
    initial_lrs = [group["lr"] for group in groups]
    done, kept_parts = _resume(checkpoint, model, optimizer)
    frozen = [*frozen, *_early_layers(model, spec.frozen_stride)]
    trainable = [parameter for part in frozen for parameter in part.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)  # saves their backward passes
    if spec.epochs and (done < spec.epochs or spec.min_steps):
        folded = folded_statistics(model) if spec.freeze_statistics else nullcontext()
        with closing(_Steps(model, optimizer, loss_of, source, spec, seed, kept_parts)) as steps, folded:
            epochs = spec.num_epochs(steps.per_epoch)
            total = epochs * steps.per_epoch
            for epoch in range(done, epochs):
                model.train()
                if spec.freeze_statistics:
                    freeze_statistics(model)
                for part in frozen:
                    part.eval()
                losses: list[float] = []
                first = epoch * steps.per_epoch
                for index, micro_batches in enumerate(steps.epoch(epoch)):
                    for group, lr in zip(optimizer.param_groups, initial_lrs, strict=True):
                        group["lr"] = lr * _schedule((first + index) / total, spec.warmup)
                    loss = steps.step(micro_batches)
                    if not math.isfinite(loss):
                        raise NonFiniteLossError(
                            f"the loss became {loss} in epoch {epoch + 1}, step {index + 1}; the state after epoch "
                            f"{epoch} is kept, pass a lower learning rate"
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
                        write_torch(checkpoint, {**state, "micro_batches": steps.micro_batches})
                wait_for_all()
    for parameter in trainable:
        parameter.requires_grad_(True)
    model.eval()


class _MicroBatch(NamedTuple):
    """Some images of a step, their weight in its mean loss, and their own seed."""

    batch: Batch
    weight: float
    seed: int


class _Steps:
    """Splits epochs into steps and steps into micro-batches, and takes a step."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_of: LossOf,
        source: ImageSource,
        spec: FitSpec,
        seed: int,
        kept_parts: int | None,
    ) -> None:
        self.model = model
        self.optimizer, self.loss_of, self.spec, self.seed = optimizer, loss_of, spec, seed
        self.device = next(model.parameters()).device
        self.running: Generator[list[_MicroBatch], None, None] | None = None  # the epoch
        if spec.micro_batch_size is None:
            found = kept_parts or process_count() * self._fitting_parts(source)
            self.micro_batches = math.lcm(found, process_count())
        else:
            self.micro_batches = math.ceil(spec.batch_size / spec.micro_batch_size)
        self.model = wrap(model)
        if self.micro_batches % process_count():
            raise ValueError(
                f"a step of {self.micro_batches} micro-batches can't be divided among {process_count()} processes; "
                f"change batch_size ({spec.batch_size}) or micro_batch_size ({spec.micro_batch_size})"
            )
        self.num_images, self.loader = len(source), EpochLoader(source, spec.num_workers, self.device)
        if self.num_images < self.micro_batches:  # one step of all images, in as few micro-batches as they need
            processes = process_count()
            if self.num_images < processes:
                raise ValueError(
                    f"{self.num_images} images can't be divided among {processes} processes; start fewer, or pass more "
                    "images"
                )
            micro_batch_size = spec.micro_batch_size or math.ceil(spec.batch_size / self.micro_batches)
            needed = math.ceil(self.num_images / micro_batch_size)
            self.micro_batches = min(math.ceil(needed / processes), self.num_images // processes) * processes
        whole, rest = divmod(self.num_images, spec.batch_size)
        self.per_epoch = whole + (rest >= self.micro_batches)  # steps; a last one of fewer images is dropped

    def _fitting_parts(self, source: ImageSource) -> int:
        """Into how many parts memory divides each process's images of a step."""
        processes, first = process_count(), source.fetch(torch.tensor([0]))
        images = max(1, min(self.spec.batch_size, len(source)) // processes)
        one = _MicroBatch(first, 1.0, self.seed)
        pixels = first.images.numel() // 3
        return largest_over_processes(fitting_parts(self.model, lambda: self._loss(one), images, pixels, processes))

    def close(self) -> None:
        """Ends the processes that load images, also in the middle of an epoch."""
        if self.running is not None:
            self.running.close()
        self.loader.close()

    def epoch(self, epoch: int) -> Iterator[list[_MicroBatch]]:
        """The micro-batches of this process, for every step of an epoch."""
        self.running = self._epoch(epoch)
        return self.running

    def _epoch(self, epoch: int) -> Generator[list[_MicroBatch], None, None]:
        order = torch.randperm(self.num_images, generator=torch.Generator().manual_seed(_seed(self.seed, epoch)))
        steps = order.split(self.spec.batch_size)[: self.per_epoch]
        own = range(process_index(), self.micro_batches, process_count())
        plan = [
            (index, number, step.tensor_split(self.micro_batches)[number])
            for index, step in enumerate(steps)
            for number in own
        ]
        batches = self.loader.batches(epoch, [indices for _, _, indices in plan])
        gathered: list[_MicroBatch] = []
        for (index, number, indices), batch in zip(plan, batches, strict=True):
            weight = len(indices) / len(steps[index])
            gathered.append(_MicroBatch(batch, weight, _seed(self.seed, epoch, index, number)))
            if len(gathered) == len(own):
                yield gathered
                gathered = []

    def step(self, micro_batches: list[_MicroBatch]) -> float:
        """Accumulates the gradients of all micro-batches and updates the weights; returns the mean loss."""
        self.optimizer.zero_grad()
        total = 0.0
        for index, micro_batch in enumerate(micro_batches):
            is_last = index == len(micro_batches) - 1
            waits = isinstance(self.model, DistributedDataParallel) and not is_last
            with self.model.no_sync() if waits else nullcontext():  # type: ignore[operator]  # DDP's own
                loss = self._loss(micro_batch) * micro_batch.weight * process_count()  # DDP averages over processes
                total += loss.item()
                loss.backward()  # even if the loss is NaN: the other processes wait for it
        total = mean_over_processes(total)
        if math.isfinite(total):
            self.optimizer.step()
        return total

    def _loss(self, micro_batch: _MicroBatch) -> Tensor:
        torch.manual_seed(micro_batch.seed)  # for dropout and the like
        generator = torch.Generator().manual_seed(micro_batch.seed)
        images = micro_batch.batch.images.to(self.device, non_blocking=True)
        batch = micro_batch.batch._replace(images=images, labels=micro_batch.batch.labels.to(self.device))
        dtype = PRECISIONS[self.spec.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            return self.loss_of(self.model, batch, generator)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _schedule(progress: float, warmup: float) -> float:
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))


def _resume(checkpoint: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, int | None]:
    """Loads the state after the last complete epoch, if any; returns how many are done, and a step's micro-batches."""
    if checkpoint is None or not checkpoint.exists():
        return 0, None
    state = read_torch(checkpoint)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"]), int(state["micro_batches"])


def _early_layers(model: nn.Module, stride: int | None) -> list[nn.Module]:
    """The layers of a model's encoders up to their maps of a stride; none for None."""
    encoders = [each for each in model.modules() if isinstance(each, Encoder)]
    return [] if stride is None else [layer for encoder in encoders for layer in encoder.early_layers(stride)]


def freeze_statistics(model: nn.Module) -> None:
    """Makes the batch normalizations of a model in training mode use the statistics that they have."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
