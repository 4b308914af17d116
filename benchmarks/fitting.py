"""Trains the small networks of the suite's classifiers; `suite_classifiers.py` and `zoom_stop.py` use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn


def fit(
    modules: Sequence[nn.Module],
    steps: int,
    rate: float,
    loss_of: Callable[[], Tensor],
    name: str,
    max_norm: float | None = None,
) -> None:
    """Minimizes a loss by AdamW with one cycle of the learning rate; the modules are in `eval` mode afterwards.

    Args:
        modules: what is trained.
        steps: how many.
        rate: the highest learning rate.
        loss_of: the loss of a new batch.
        name: what the printed lines call it.
        max_norm: of the gradient; None does not clip it.
    """
    parameters = [one for module in modules for one in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for module in modules:
        module.train()
    losses = []
    for step in range(1, steps + 1):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(parameters, max_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 200 == 0:
            print(f"{name}, step {step}: loss {sum(losses[-200:]) / 200:.4f}", flush=True)
    for module in modules:
        module.eval()


def batches(count: int, size: int) -> Iterator[Tensor]:
    """Indices below `count` in batches of `size`, in a new random order in each epoch, without an end."""
    while True:
        yield from torch.randperm(count).split(size)
