"""Micro-batches that fit into memory: what a step keeps for its backward pass is measured on one image."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from classifiers.devices import free_memory

_OVERHEAD = 1.5  # gradients of maps and scratch space; measured 1.3 for EfficientNet-Lite0, 1.4 for ResNet-50
_MOST_BYTES_PER_PIXEL = 16_384  # DenseNet-201 takes 6,100 for a pixel, and an episode may see each pixel twice
_STATE = 4  # parameter, gradient and two moments


def kept_bytes(model: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, beside the parameters.

    Args:
        model: put into evaluation mode, so that nothing in it changes.
        loss: the forward pass.

    Returns:
        Bytes.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    model.eval()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        graph = loss()  # alive until all is counted, so that no memory is used twice
    total = sum(kept.values())
    del graph
    return total


class StepMemory(NamedTuple):
    """Bytes that a training step takes.

    Attributes:
        fixed: of the parameters, their gradients and the optimizer's moments.
        each: of every image of a micro-batch.
    """

    fixed: float
    each: float

    def of(self, images: int) -> float:
        """Bytes of a step of so many images at once."""
        return self.fixed + self.each * images

    def parts(self, images: int, free: int | None) -> int:
        """Into how many micro-batches a step is divided to fit into the free memory; 1 where that is unknown."""
        parts = 1
        while free is not None and parts < images and self.of(-(-images // parts)) > free:
            parts = min(2 * parts, images)
        return parts


def step_memory(model: nn.Module, loss: Callable[[], Tensor]) -> StepMemory:
    """What a training step takes, from the forward pass of one image; see `kept_bytes`."""
    parameters = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return StepMemory(_STATE * parameters, _OVERHEAD * kept_bytes(model, loss))


def fitting_parts(model: nn.Module, loss: Callable[[], Tensor], images: int, pixels: int, processes: int) -> int:
    """Into how many micro-batches a process has to divide its images of a step.

    Args:
        model: what is trained.
        loss: the forward pass of one image.
        images: of a step, in one process.
        pixels: of an image.
        processes: that share the memory.

    Returns:
        1 if all fit into the free memory or nothing is known of it; else it warns.
    """
    device = next(model.parameters()).device
    free = free_memory(device)
    if free is None:
        return 1
    free //= processes if device.type == "cpu" else 1
    if images * pixels * _MOST_BYTES_PER_PIXEL < free:
        return 1
    needed = step_memory(model, loss)
    parts = needed.parts(images, free)
    if parts > 1:
        warnings.warn(
            f"a step of {images} images needs {needed.of(images) / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are "
            f"free: it is taken in {parts} micro-batches, over each of which batch normalizations average. "
            "micro_batch_size sets how many images each has",
            stacklevel=2,
        )
    return parts
