"""A policy that is told where to look: supervised regression of boxes, a reference without reinforcement learning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.policies.baselines import BaselinePolicy, center_location
from classifiers.networks.costs import count_multiply_adds
from classifiers.networks.glimpse import View
from gfnet_env.tasks import Task

_BATCH, _STEPS, _RATE, _UNITS = 64, 1500, 3e-3, 32


class BoxRegressor(nn.Module):
    """Two convolutions over the glance's feature maps, and the center of mass of a map for each box.

    Args:
        channels: channels C of the feature maps.
        num_boxes: boxes N of an image.
    """

    def __init__(self, channels: int, num_boxes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.GroupNorm(1, channels),
            nn.Conv2d(channels, _UNITS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_UNITS, num_boxes, 3, padding=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, N, 2) centers (row, col) of the boxes as fractions of the image."""
        weights = self.convolutions(maps).flatten(2).softmax(dim=2)  # (B, N, h * w)
        height, width = maps.shape[-2:]
        rows = (torch.arange(height, device=maps.device) + 0.5) / height
        columns = (torch.arange(width, device=maps.device) + 0.5) / width
        centers: Tensor = weights @ torch.cartesian_prod(rows, columns)
        return centers


class BoxRegressionPolicy(BaselinePolicy):
    """Visits the boxes where a network sees them in the glance, in their order, then stays at the last.

    `train_box_policy` makes one. It observes what agents observe, but was told in training where the boxes are.

    Args:
        network: finds the boxes.
        image_size: (H, W) of the images in pixels.
        patch_sizes: sides that a patch may have, in pixels. Where the agent chooses the size, the largest is taken.
        multiply_adds: cost of one decision for one image.
    """

    observation_keys = ("glance",)

    def __init__(
        self, network: BoxRegressor, image_size: tuple[int, int], patch_sizes: tuple[int, ...], multiply_adds: int
    ) -> None:
        self.network, self.multiply_adds = network, multiply_adds
        self._image_size, self._patch_sizes = torch.tensor(image_size), torch.tensor(patch_sizes)

    @torch.inference_mode()
    def __call__(self, view: View, state: Any) -> tuple[Tensor, Any]:
        centers = self.network(view.glance).cpu() * self._image_size  # (B, N, 2) in pixels
        turn = (view.step.cpu() - 1).clamp(max=centers.shape[1] - 1)
        center = centers[torch.arange(len(turn)), turn]
        side = self._patch_sizes[-1].expand(len(turn))
        if view.next_size is not None:
            given = view.next_size.cpu()
            side = torch.where(given.any(dim=1), self._patch_sizes[given.argmax(dim=1)], side)
        return center_location(center.repeat(1, 2), self._image_size, side).to(view.step.device), state


def train_box_policy(task: Task, num_scenes: int = 600, seed: int = 0) -> BoxRegressionPolicy:
    """Trains a policy on the boxes of a task's images by plain supervised learning; it takes some seconds.

    The network reads the glance alone, so it finds what the glance shows, and not what depends on later looks. It
    minimizes the squared distance to the centers, Huber's for large ones; images without a box are left out.

    Args:
        task: images with boxes, and the classifier whose glance is read.
        num_scenes: learn from at most this many images, the first ones.
        seed: of the weights and the order of the images.

    Returns:
        The policy.

    Raises:
        ValueError: if none of these images has a box.
    """
    maps, boxes = _glances(task, min(num_scenes, len(task.source)))
    is_there = boxes.any(dim=2)  # (L, N)
    if not is_there.any():
        raise ValueError(f"none of the first {len(boxes)} images has a box; pass images with boxes, see docs/data.md")
    image_size = torch.tensor(task.source.image_size)
    targets = (boxes[..., :2] + boxes[..., 2:]).float() / 2 / image_size
    known = torch.nonzero(is_there.any(dim=1))[:, 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BoxRegressor(maps.shape[1], boxes.shape[1])
        optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
        for _ in range(_STEPS):
            rows = known[torch.randint(len(known), (_BATCH,))]
            gap = functional.smooth_l1_loss(network(maps[rows]), targets[rows], reduction="none", beta=0.1)
            loss = gap.sum(dim=2)[is_there[rows]].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    cost = count_multiply_adds(network, lambda: network(maps[:1]))
    sizes = task.classifier.spec.patch_sizes
    return BoxRegressionPolicy(network.to(task.classifier.device), task.source.image_size, sizes, cost)


@torch.no_grad()
def _glances(task: Task, count: int) -> tuple[Tensor, Tensor]:
    """(L, C, h, w) feature maps of the glance and (L, N, 4) boxes of the first images, on the CPU."""
    maps, boxes = [], []
    for indices in torch.arange(count).split(_BATCH):
        batch = task.source.fetch(indices)
        maps.append(task.classifier.glance(batch.images.to(task.classifier.device)).features.cpu())
        boxes.append(batch.boxes)
    return torch.cat(maps), torch.cat(boxes)
