"""Episodes of many images, each at its own step, that end by confidence."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.evaluation.stopping import ExitRule
from agents.policies.protocol import LocationPolicy
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.glimpse import Glimpse, View, summarize_logits
from gfnet_env.observation import PIXEL_KEYS


class Episodes:
    """N episodes, each at its own step. Those that go on wait in one queue for each size of their next patch.

    Args:
        classifier: the frozen networks.
        policy: where to look.
        rule: when to exit, and the size of the next patch if not, Eq. (9).
        images: (N, 3, H, W), or clips (N, F, 3, H, W), on the classifier's device.
        top_k: how many of the most probable classes to keep, at most all K.

    Attributes:
        nodes: (N,) int64, where each is in the tree of `classifiers.networks.size_histories`.
        steps: (N,) int64, looks so far, the glance included.
        labels: (N,) int64, the prediction of the last look.
        confidences: (N,) float32, its probability.
        top_labels: (N, k) int64, the most probable classes after the last look, most probable first.
        top_probabilities: (N, k) float32, their probabilities.
        locations: (N, T - 1, 2) in [0, 1], (row, col) of the patches; NaN after the last one.
        sides: (N, T - 1) int64, their sides in pixels; 0 after the last one.
    """

    def __init__(
        self,
        classifier: FrozenClassifier,
        policy: LocationPolicy,
        rule: ExitRule,
        images: Tensor,
        top_k: int = 1,
    ) -> None:
        self._classifier, self._policy, self._images = classifier, policy, images
        self._first = classifier.first_location(len(images), torch.Generator().manual_seed(0))
        self._sizes, last = classifier.spec.patch_sizes, classifier.spec.num_glimpses
        count, device = len(images), images.device
        self.nodes = torch.zeros(count, dtype=torch.int64, device=device)
        self.steps = torch.zeros(count, dtype=torch.int64, device=device)
        self.labels = torch.zeros(count, dtype=torch.int64, device=device)
        self.confidences = torch.zeros(count, device=device, dtype=torch.float32)
        self.top_labels = torch.zeros(count, top_k, dtype=torch.int64, device=device)
        self.top_probabilities = torch.zeros(count, top_k, device=device, dtype=torch.float32)
        self.locations = torch.full((count, last - 1, 2), torch.nan, device=device, dtype=torch.float32)
        self.sides = torch.zeros(count, last - 1, dtype=torch.int64, device=device)
        self._hidden = torch.zeros(count, classifier.hidden_size, device=device, dtype=torch.float32)
        self._pooled = torch.zeros(count, classifier.local_encoder.pooled_size, device=device, dtype=torch.float32)
        self._states: Tensor | None = None  # (N, ...) of the policy if it has a memory, which starts at zero
        self._reads_pixels = not set(PIXEL_KEYS).isdisjoint(policy.observation_keys)
        self._queues = [_Queue(device, "glance" in policy.observation_keys) for _ in self._sizes]
        self._is_entropy = rule.criterion == "entropy"
        thresholds = torch.from_numpy(rule.thresholds)
        at_the_end = torch.full((1, len(self._sizes)), -torch.inf, dtype=torch.float64)
        ascending, order = torch.cat([thresholds, at_the_end]).sort(dim=1, stable=True)
        exits = torch.full((last, 1), len(self._sizes))
        self._thresholds = round_down(ascending).to(device)  # (T, K), ascending at each step
        self._sizes_below = torch.cat([order, exits], dim=1).to(device)  # (T, K + 1), the next size in each interval

    @property
    def most_waiting(self) -> int:
        """How many episodes wait for their next look at patches of one size, of the size for which most do."""
        return max(len(queue.indices) for queue in self._queues)

    def glance(self, start: int, stop: int) -> None:
        """The first step of the episodes `start` to `stop`."""
        images = self._images[start:stop]  # a view
        indices = torch.arange(start, start + len(images), device=images.device)
        glimpse = self._classifier.glance(images, None if self._first is None else self._first[indices])
        self._settle(indices, glimpse, glimpse.features)

    def focus(self, batch_size: int) -> None:
        """The next step of those that have waited longest for patches of one size, where most wait.

        Args:
            batch_size: take at most this many.
        """
        size = max(range(len(self._queues)), key=lambda each: len(self._queues[each].indices))
        indices, features, glances = self._queues[size].take(batch_size)
        glimpse = Glimpse(features, self._hidden[indices], features[:0], self._pooled[indices])
        location = self._locate(indices, glimpse, glances, size)
        self.sides[indices, self.steps[indices] - 1] = self._sizes[size]
        self.nodes[indices] = self.nodes[indices] * len(self._sizes) + 1 + size
        self._settle(indices, self._classifier.look(self._images, location, glimpse.hidden, indices, size), glances)

    def _locate(self, indices: Tensor, glimpse: Glimpse, glances: Tensor, size: int) -> Tensor:
        """Where these look next; decided only now, so that the policy sees full batches too."""
        states = None if self._states is None else self._states[indices]
        first = None if self._first is None else self._first[indices]
        locations = self.locations[indices].nan_to_num(0.0)
        last = self._last(indices)
        images = self._images[indices] if self._reads_pixels else None
        seen = glimpse, glances, locations, self.steps[indices], images, None, first, last, last
        view = View(*seen, spec=self._classifier.spec)
        location, states = self._policy(view.with_next_size(size), states)
        self.locations[indices, self.steps[indices] - 1] = location
        if states is not None:
            if self._states is None:
                self._states = states.new_zeros(len(self._images), *states.shape[1:])
            self._states[indices] = states
        return location

    def _last(self, indices: Tensor) -> Tensor | None:
        """(B, K) one-hot of the last patch's size, zeros after the glance; None if patches have one size."""
        count, nodes = len(self._sizes), self.nodes[indices]
        if count == 1:
            return None
        sizes = torch.arange(count, device=nodes.device)
        return ((sizes == (nodes[:, None] - 1) % count) & (nodes[:, None] > 0)).float()

    def _settle(self, indices: Tensor, glimpse: Glimpse, glances: Tensor) -> None:
        """Records a glimpse; confident images exit and the others wait for their next look."""
        found = summarize_logits(glimpse.logits)
        self.labels[indices], self.confidences[indices] = found.prediction, found.confidence
        top_k = self.top_labels.shape[1]
        labels, probabilities = found.prediction[:, None], found.confidence[:, None]
        if top_k > 1:  # a stable sort has ties in the order in which the prediction has them
            probabilities, labels = glimpse.logits.float().softmax(dim=1).sort(dim=1, descending=True, stable=True)
        self.top_labels[indices], self.top_probabilities[indices] = labels[:, :top_k], probabilities[:, :top_k]
        step = self.steps[indices]
        self.steps[indices] += 1
        score = -found.entropy if self._is_entropy else found.confidence
        above = (score[:, None] <= self._thresholds[step]).sum(dim=1, keepdim=True)  # none, too, if it is not a number
        chosen = self._sizes_below[step].gather(1, len(self._sizes) - above)[:, 0]
        for size, queue in enumerate(self._queues):
            stays = chosen == size
            remaining = indices[stays]
            self._hidden[remaining], self._pooled[remaining] = glimpse.hidden[stays], glimpse.pooled[stays].float()
            queue.add(remaining, glimpse.features[stays], glances, stays)


class _Queue:
    """Episodes that wait for a look, in the order of their last one."""

    def __init__(self, device: torch.device, keeps_glances: bool) -> None:
        self.indices = torch.zeros(0, dtype=torch.int64, device=device)
        self._features = torch.zeros(0, device=device, dtype=torch.float32)  # (W, C, h, w) of the last look
        self._glances = torch.zeros(
            0, device=device, dtype=torch.float32
        )  # likewise of the glances, if the policy reads them
        self._keeps_glances = keeps_glances

    def add(self, indices: Tensor, features: Tensor, glances: Tensor, stays: Tensor) -> None:
        """Appends episodes; `stays` says which of the glances are theirs."""
        self.indices = torch.cat([self.indices, indices])
        self._features = _joined(self._features, features)
        if self._keeps_glances:
            self._glances = _joined(self._glances, glances[stays])

    def take(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Removes the first `count`: their indices, feature maps and glances."""
        taken = self.indices[:count], self._features[:count], self._glances[:count]
        self.indices, self._features, self._glances = (
            self.indices[count:],
            self._features[count:],
            self._glances[count:],
        )
        return taken


def _joined(waiting: Tensor, new: Tensor) -> Tensor:
    return torch.cat([waiting, new]) if len(waiting) else new


def round_down(thresholds: Tensor) -> Tensor:
    """Float64 as float32, which every device has. A score of float32 exceeds one exactly if it exceeds the other."""
    rounded = thresholds.to(torch.float32)
    below = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
    return torch.where(rounded.double() > thresholds, below, rounded)
