"""Policies without training, as baselines for learned ones (Table 5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.policies.protocol import LocationPolicy
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import View, summarize_logits

CENTER_CORNERS = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
"""(5, 2) locations of the center-corner policy, in its order (Table 5)."""


_Encodings = dict[int, tuple[Tensor, Tensor]]  # by size: pooled (B, G, F) and logits (B, G, K) of all places


class BaselinePolicy(ABC):
    """A policy that observes nothing and costs nothing."""

    observation_keys: tuple[str, ...] = ()
    multiply_adds: int = 0

    @abstractmethod
    def __call__(self, view: View, state: Any) -> tuple[Tensor, Any]:
        """Decides where to look, as `LocationPolicy`."""


class RandomPolicy(BaselinePolicy):
    """Uniformly random locations.

    Args:
        seed: of its own generator.
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, view: View, state: Any) -> tuple[Tensor, Any]:
        return torch.rand(len(view.step), 2, generator=self._generator, dtype=torch.float32).to(view.step.device), state


class CenterCornerPolicy(BaselinePolicy):
    """First the center, then the corners in reading order (Table 5), then the center again.

    Where the first glimpse was a patch at the center instead of a glance, it begins with the corners.
    """

    def __call__(self, view: View, state: Any) -> tuple[Tensor, Any]:
        places = CENTER_CORNERS.to(view.step.device)
        visited = view.step - 1
        if view.first_location is not None:
            visited = visited + (view.first_location == places[0]).all(dim=1)
        return places[visited % len(places)], state


class FixedPlacesPolicy(BaselinePolicy):
    """The same places in every image, one for each focus step; then they begin again.

    Args:
        places: (L, 2) locations in [0, 1], (row, col).
    """

    def __init__(self, places: Tensor) -> None:
        self.places = places

    def __call__(self, view: View, state: Any) -> tuple[Tensor, Any]:
        return self.places.to(view.step.device)[(view.step - 1) % len(self.places)], state


class ScanPolicy(BaselinePolicy):
    """A blind search without repeats: places that cover the image, in a random order for each episode, then again.

    The places are as few as patches of this size need: patches side by side, with overlaps where they don't divide the
    image.

    Args:
        image_size: (H, W) of the images in pixels.
        patch_size: side of the patches in pixels.
        seed: of its own generator.
    """

    def __init__(self, image_size: tuple[int, int], patch_size: int, seed: int = 0) -> None:
        rows, columns = (-(-side // patch_size) for side in image_size)
        self.places = grid_locations(rows, columns)
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, view: View, state: Tensor | None) -> tuple[Tensor, Tensor]:
        if state is None:  # (B, G) the order of each episode
            state = torch.rand(len(view.step), len(self.places), generator=self._generator).argsort(dim=1)
        turn = (view.step.cpu() - 1) % len(self.places)
        return self.places[state.gather(1, turn[:, None])[:, 0]].to(view.step.device), state


class ReferencePolicy(BaselinePolicy):
    """Visits the boxes of what decides the label, in their order, then stays at the last; centers the patch on the box.

    It sees the boxes, so it is not a usable policy but what looking is worth to a policy that knows where to look, and
    not what is there. Where an image has no box it looks at the center.

    Args:
        image_size: (H, W) of the images in pixels.
        patch_sizes: sides that a patch may have, in pixels. Where the agent chooses the size, the largest is taken;
            `act` chooses.

    Raises:
        ValueError: in a call, if the boxes are unknown.
    """

    def __init__(self, image_size: tuple[int, int], patch_sizes: Sequence[int]) -> None:
        self._image_size = torch.tensor(image_size)
        self._patch_sizes = torch.tensor(patch_sizes)

    def __call__(self, view: View, state: Any) -> tuple[Tensor, Any]:
        boxes, num_there = _next_box(view)
        side = self._patch_sizes[-1].expand(len(boxes))
        if view.next_size is not None:
            given = view.next_size.cpu()
            side = torch.where(given.any(dim=1), self._patch_sizes[given.argmax(dim=1)], side)
        return self._centered(boxes, num_there, side).to(view.step.device), state

    def act(self, view: View, names: Sequence[str]) -> Tensor:
        """Actions with a size or a stop: the smallest patch that holds the box, and no more than a look at each box.

        Args:
            view: of B episodes.
            names: components of an action, see `gfnet_env.actions.ActionBox`.

        Returns:
            (B, A) float32 in [-1, 1].
        """
        boxes, num_there = _next_box(view)
        number = (self._patch_sizes < (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)[:, None]).sum(dim=1)
        number = number.clamp(max=len(self._patch_sizes) - 1)
        place = 2.0 * self._centered(boxes, num_there, self._patch_sizes[number]) - 1.0
        columns = {
            "row": place[:, 0],
            "col": place[:, 1],
            "stop": (view.step.cpu() > num_there).float() * 2.0 - 1.0,
            "size": (2.0 * number + 1.0) / len(self._patch_sizes) - 1.0,
        }
        return torch.stack([columns[name] for name in names], dim=1)

    def _centered(self, boxes: Tensor, num_there: Tensor, side: Tensor) -> Tensor:
        location = center_location(boxes, self._image_size, side)
        location[num_there == 0] = 0.5
        return location


def _next_box(view: View) -> tuple[Tensor, Tensor]:
    """(B, 4) the box that is next in each row, the last if all have been visited, and (B,) how many there are."""
    if view.boxes is None:
        raise ValueError("the reference policy needs boxes; use it in `agents.evaluate`, not in recognition")
    boxes, step = view.boxes.cpu(), view.step.cpu()
    is_there = boxes.any(dim=2)  # (B, N)
    num_there = is_there.sum(dim=1)
    order = (~is_there).long().argsort(dim=1, stable=True)  # those that are there first
    turn = torch.minimum(step - 1, (num_there - 1).clamp(min=0))
    return boxes[torch.arange(len(boxes)), order.gather(1, turn[:, None])[:, 0]], num_there


def center_location(boxes: Tensor, image_size: Tensor, side: Tensor) -> Tensor:
    """Where a patch is centered on a box, or as nearly as the image's border allows.

    Args:
        boxes: (B, 4) int64 (top, left, bottom, right) in pixels.
        image_size: (2,) int64, (H, W) in pixels.
        side: (B,) int64, of the patches in pixels.

    Returns:
        (B, 2) float32 in [0, 1], (row, col).
    """
    center = (boxes[:, :2] + boxes[:, 2:]).float() / 2
    corner = (center - side[:, None] / 2).round()
    room = (image_size - side[:, None]).clamp(min=1)
    return ((corner + 0.5) / room).clamp(0.0, 1.0)  # in the middle of the pixel, so that floor finds it


class OraclePolicy(BaselinePolicy):
    """Tries a grid of locations at every step and takes the one with the highest probability of the true label.

    It sees the labels, so it is not a usable policy but an estimate of the best accuracy a policy can reach (greedy,
    one step ahead). The patches of an image are encoded once in each size; only the head runs at every step.

    Args:
        classifier: the frozen networks.
        grid: locations along each axis.

    Raises:
        ValueError: in a call, if images or labels are unknown.
    """

    def __init__(self, classifier: GlanceFocusClassifier, grid: int = 9) -> None:
        self._classifier = classifier
        self._places = grid_locations(grid)

    def __call__(self, view: View, state: _Encodings | None) -> tuple[Tensor, _Encodings]:
        if view.images is None or view.labels is None:
            raise ValueError("the oracle needs images and labels; use it in `agents.evaluate`, not in recognition")
        size = torch.zeros_like(view.step) if view.next_size is None else view.next_size.argmax(dim=1)  # (B,)
        state = dict(state or {})
        probabilities = torch.zeros(len(size), len(self._places), device=size.device)
        for each in size.unique().tolist():
            if each not in state:
                state[each] = encode_places(self._classifier, view.images, self._places, each)
            found = label_probabilities(self._classifier, *state[each], view.glimpse.hidden, view.labels)
            probabilities = torch.where((size == each)[:, None], found, probabilities)
        return self._places[probabilities.argmax(dim=1).cpu()].to(probabilities.device), state


FIXED_POLICIES: dict[str, Callable[[int], LocationPolicy]] = {
    "random": RandomPolicy,
    "center_corner": lambda seed: CenterCornerPolicy(),
}
"""Policies that a run may use instead of a trained agent (Table 5), by name: `FIXED_POLICIES[name](seed)`."""


def grid_locations(grid: int, columns: int | None = None) -> Tensor:
    """(grid * columns, 2) locations on a regular grid over [0, 1]^2, row by row; `columns` defaults to `grid`."""
    rows = torch.linspace(0.0, 1.0, grid)
    return torch.cartesian_prod(rows, torch.linspace(0.0, 1.0, columns or grid))


@torch.inference_mode()
def encode_places(
    classifier: GlanceFocusClassifier, images: Tensor, places: Tensor, size: int = -1
) -> tuple[Tensor, Tensor]:
    """Encodes the patch at every place of every image.

    Args:
        classifier: the frozen networks.
        images: (B, 3, H, W) uint8.
        places: (G, 2) locations in [0, 1].
        size: index of the patches' size, by default the largest.

    Returns:
        pooled (B, G, F) and the encoder's own logits (B, G, K).
    """
    pooled, logits = [], []
    only = torch.zeros(len(places), dtype=torch.int64, device=images.device)
    for image in images:
        vectors = classifier.encode_at(image[None], places, only, size).pooled
        pooled.append(vectors)
        logits.append(classifier.local_encoder.classifier(vectors))
    return torch.stack(pooled), torch.stack(logits)


@torch.inference_mode()
def label_probabilities(
    classifier: GlanceFocusClassifier, pooled: Tensor, encoder_logits: Tensor, hidden: Tensor, labels: Tensor
) -> Tensor:
    """(B, G) the true label's probability after a glimpse of each place, of what `encode_places` returned."""
    count, places = pooled.shape[:2]
    reads = classifier.head.reads_encoder_logits(is_first=False)
    logits, _ = classifier.head(
        pooled.flatten(0, 1),
        encoder_logits.flatten(0, 1) if reads else None,
        hidden.repeat_interleave(places, dim=0),
    )
    probabilities = summarize_logits(logits, labels.repeat_interleave(places)).label_probability
    assert probabilities is not None
    return probabilities.view(count, places)
