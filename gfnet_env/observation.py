"""What an agent observes: its space, and tensors by name, made from the classifier's view and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from classifiers.networks.geometry import crop_at, resize
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import View
from classifiers.networks.spec import ClassifierSpec

SIZE_KEYS = ("last_size", "next_size")
"""Observed only where patches have several sizes."""

PIXEL_KEYS = ("glance_pixels", "patch_pixels")
"""What was looked at itself, uint8, for agents that bring an encoder of their own."""

OBSERVATION_KEYS = ("features", "hidden", "locations", "progress", "glance", "pooled", *SIZE_KEYS, *PIXEL_KEYS)
"""What an agent may observe, by name; see `observe`."""

DEFAULT_OBSERVATION = ("features", "hidden", "locations", "progress")
"""The default: enough to know which glimpses were taken. `observation_keys` adds the sizes."""


def observation_keys(observe: Sequence[str], num_sizes: int, *, size_action: bool) -> tuple[str, ...]:
    """The keys of an environment's observations; the default includes the sizes where there are several.

    Args:
        observe: the keys that its rules ask for, of `OBSERVATION_KEYS`.
        num_sizes: K patch sizes.
        size_action: whether the agent chooses the next size, so that it is not known before.

    Returns:
        The keys.

    Raises:
        ValueError: if a key asks for a size that does not exist.
    """
    known = () if num_sizes == 1 else SIZE_KEYS[:1] if size_action else SIZE_KEYS
    for key in SIZE_KEYS:
        if key in observe and key not in known:
            reason = "all patches have one size" if num_sizes == 1 else "size_action lets the agent choose it"
            raise ValueError(f"observe holds {key!r}, but {reason}; leave it out of observe")
    return (*observe, *known) if tuple(observe) == DEFAULT_OBSERVATION else tuple(observe)


def observation_space(classifier: GlanceFocusClassifier, keys: Sequence[str]) -> spaces.Dict:
    """The space of `observe` for one image.

    Args:
        classifier: the networks.
        keys: which of `OBSERVATION_KEYS`.

    Returns:
        A `Dict` of float32 boxes, of uint8 boxes for pixels; feature maps and hidden state are unbounded.
    """
    maps, num_glimpses = classifier.feature_shape(), classifier.spec.num_glimpses
    num_sizes = len(classifier.spec.patch_sizes)
    frames = () if classifier.spec.num_frames is None else (classifier.spec.num_frames,)

    def pixels(side: int) -> spaces.Box:
        return spaces.Box(0, 255, (*frames, 3, side, side), np.uint8)

    boxes = {
        "features": spaces.Box(-np.inf, np.inf, maps, np.float32),
        "hidden": spaces.Box(-np.inf, np.inf, (classifier.hidden_size,), np.float32),
        "locations": spaces.Box(0.0, 1.0, (num_glimpses - 1, 2), np.float32),
        "progress": spaces.Box(0.0, 1.0, (num_glimpses,), np.float32),
        "glance": spaces.Box(-np.inf, np.inf, maps, np.float32),
        "pooled": spaces.Box(-np.inf, np.inf, (classifier.local_encoder.pooled_size,), np.float32),
        "last_size": spaces.Box(0.0, 1.0, (num_sizes,), np.float32),
        "next_size": spaces.Box(0.0, 1.0, (num_sizes,), np.float32),
        "glance_pixels": pixels(classifier.spec.glance_side),
        "patch_pixels": pixels(classifier.spec.patch_sizes[-1]),
    }
    return spaces.Dict({key: box for key, box in boxes.items() if key in keys})


def observe(view: View, keys: Sequence[str]) -> dict[str, Tensor]:
    """The observation of B episodes.

    Args:
        view: the state of the episodes, as far as it is visible.
        keys: which of `OBSERVATION_KEYS`.

    Returns:
        Float32 tensors by name: `features` (B, C, h, w), the feature maps e_t of the last input; `hidden` (B, F_h), the
        classifier's hidden state h^C_t; `locations` (B, T - 1, 2) in [0, 1], (row, col) of the patches so far, zeros
        where none was taken; `progress` (B, T), one-hot of the number of glimpses so far; `glance` (B, C, h, w), the
        feature maps of the glance; `pooled` (B, F), the pooled vector of the last input, which is all that the head
        reads of it; with K patch sizes `last_size` (B, K), one-hot of the last patch's size, zeros after
        the glance, and `next_size` (B, K), one-hot of the size of the patch to place. Uint8, RGB, and of a clip with a
        dimension of frames before the channels: `glance_pixels` (B, 3, G, G), what the glance saw; `patch_pixels`
        (B, 3, P, P), the last patch, a smaller one resized bilinearly to the largest size, black after the glance; of
        several scales, the finest.

    Raises:
        ValueError: if the keys ask for sizes and there is only one, or for pixels where they are not kept.
    """
    num_glimpses = view.locations.shape[1] + 1
    made = {
        "features": lambda: view.glimpse.features,
        "hidden": lambda: view.glimpse.hidden,
        "locations": lambda: view.locations,
        "progress": lambda: functional.one_hot(view.step - 1, num_glimpses),
        "glance": lambda: view.glance,
        "pooled": lambda: view.glimpse.pooled,
        "last_size": lambda: _check_several(view.last_size),
        "next_size": lambda: _check_several(view.next_size),
        "glance_pixels": lambda: _glance_pixels(view),
        "patch_pixels": lambda: _patch_pixels(view),
    }
    return {key: made[key]().to(torch.uint8 if key in PIXEL_KEYS else torch.float32) for key in keys}


def _glance_pixels(view: View) -> Tensor:
    images, spec = _pixels_of(view)
    side = spec.glance_side
    if view.first_location is not None:
        images = crop_at(images, view.first_location, side)
    return resize(images, (side, side), spec.resize_mode).round().clamp(0, 255)


def _patch_pixels(view: View) -> Tensor:
    images, spec = _pixels_of(view)
    rows, side = torch.arange(len(images), device=images.device), spec.patch_sizes[-1]
    size = rows * 0 if view.last_size is None else view.last_size.argmax(dim=1).to(images.device)
    steps = view.step.to(images.device)
    location = view.locations.to(images.device)[rows, (steps - 2).clamp(min=0)]
    pixels = images.new_zeros(*images.shape[:-2], side, side)
    for index, own in enumerate(spec.patch_sizes):
        which = ((size == index) & (steps > 1)).nonzero()[:, 0]
        if len(which):
            patches = resize(crop_at(images, location[which], own, which), (side, side), "bilinear")
            pixels[which] = patches.round().to(pixels.dtype)
    return pixels


def _pixels_of(view: View) -> tuple[Tensor, ClassifierSpec]:
    if view.images is None or view.spec is None or view.images.is_floating_point():
        raise ValueError("the policy reads pixels, which are not kept here; pass one that reads features instead")
    return view.images, view.spec


def _check_several(size: Tensor | None) -> Tensor:
    if size is None:
        raise ValueError(
            "the policy reads patch sizes, but there is only one; pass the patch_sizes that it was trained with"
        )
    return size
