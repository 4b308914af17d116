"""The MDP itself, batched, in torch: every face of the environment is a thin shell around this one implementation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from classifiers.data.prefetch import Prefetcher
from classifiers.data.source import ImageSource
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.geometry import crop, top_left_px
from classifiers.networks.glance_focus import Glimpse
from gfnet_env.actions import Decisions
from gfnet_env.episode import OBSERVATION_KEYS, EpisodeSpec
from gfnet_env.glance_cache import GlanceCache
from gfnet_env.rewards import contrastive_reward, increment_reward
from gfnet_env.trace import Trace


class GlanceFocusDynamics:
    """B episodes side by side, each on an image of its own.

    Args:
        classifier: the frozen networks, on the device where everything is computed; the rules may change their sizes.
        source: the images.
        spec: the rules.
        batch_size: number B of rows.

    Raises:
        ValueError: if classifier, images and rules don't fit each other.
    """

    def __init__(self, classifier: FrozenClassifier, source: ImageSource, spec: EpisodeSpec, batch_size: int) -> None:
        classifier = spec.sized(classifier)
        _check_fit(classifier, source, spec)
        self.classifier = classifier
        self.source = source
        self.spec = spec
        self.batch_size = batch_size
        self.num_glimpses = spec.num_glimpses or classifier.spec.num_glimpses
        costs = glimpse_costs(classifier)
        self.costs = np.array([*costs, *[costs[-1]] * self.num_glimpses])  # multiply-adds of step t, at least T of them
        self.device = classifier.normalize.scale.device
        self.images = torch.zeros(batch_size, 3, *source.image_size, dtype=torch.uint8, device=self.device)
        self.features = torch.zeros(batch_size, *classifier.feature_shape(), device=self.device)
        self.hidden = torch.zeros(batch_size, classifier.hidden_size, device=self.device)
        self.trace = Trace.empty(batch_size, self.num_glimpses)
        self._glances = GlanceCache(classifier, len(source), batch_size)

    @property
    def patch_size(self) -> int:
        """Side P of a patch in pixels."""
        return self.classifier.spec.patch_size

    @torch.inference_mode()
    def begin(self, rows: np.ndarray, indices: np.ndarray) -> None:
        """Starts an episode in some rows: fetches their images and glances at them.

        Args:
            rows: (R,) int64, which rows.
            indices: (R,) int64, which images of the source.
        """
        batch = self.source.fetch(torch.from_numpy(indices))
        images = batch.images.to(self.device, non_blocking=True)
        glimpse = self._glances.glance(torch.from_numpy(indices), images)
        self.images = _with_rows(self.images, rows, images)
        trace = self.trace
        trace.index[rows], trace.label[rows] = indices, batch.labels.numpy()
        trace.box[rows] = batch.boxes.numpy()
        trace.steps[rows], trace.multiply_adds[rows], trace.stopped[rows] = 0, 0, False
        self._record(rows, glimpse, np.full((len(rows), 2), -1))

    def expect(self, indices: np.ndarray) -> None:
        """Says which images the next episodes will show, so that files are decoded while the networks compute."""
        if isinstance(self.source, Prefetcher):
            self.source.expect(indices)

    @torch.inference_mode()
    def advance(
        self, rows: np.ndarray, decisions: Decisions, rngs: Sequence[np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Looks at one patch in some rows, or ends their episodes.

        To stop costs nothing and earns nothing: no patch is encoded, the prediction stays, and the reward is 0. For
        increments that is Eq. (4), p_t - p_t; Eq. (8) compares a look with a random one, and none is taken.

        Args:
            rows: (R,) int64, which rows.
            decisions: of these R rows.
            rngs: R generators for the reward's random crops, one for each row.

        Returns:
            reward (R,) float64 and terminated (R,) bool.
        """
        reward, terminated = np.zeros(len(rows)), decisions.stops.copy()
        self.trace.stopped[rows] = decisions.stops
        looks = np.flatnonzero(~decisions.stops)
        if len(looks):
            gain = self._look(rows[looks], decisions.location[looks], [rngs[row] for row in looks.tolist()])
            reward[looks] = gain - self.spec.step_cost
            terminated[looks] = self._is_over(rows[looks])
        return reward, terminated

    def _look(self, rows: np.ndarray, location: Tensor, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """What a patch is worth in some rows, (R,) float64; the reward's random crops share the forward pass."""
        images, hidden = _rows_of(self.images, rows), _rows_of(self.hidden, rows)
        size = (images.shape[2], images.shape[3])
        is_contrastive = self.spec.reward == "contrastive"
        samples = self.spec.reward_samples if is_contrastive else 0
        random = np.stack([rng.random((samples, 2), dtype=np.float32) for rng in rngs], axis=1)  # (S, R, 2)
        locations = torch.cat([location.float(), torch.from_numpy(random).flatten(0, 1)])  # ((1 + S) R, 2)
        corners = top_left_px(locations, size, self.patch_size)
        repeats = 1 + samples
        patches = torch.cat([crop(images, part.to(self.device), self.patch_size) for part in corners.chunk(repeats)])
        glimpse = self.classifier.focus(patches, hidden.repeat(repeats, 1))
        before = self.trace.label_probability[rows, self.trace.steps[rows] - 1]
        taken = len(rows)
        labels = torch.from_numpy(self.trace.label[rows])
        probability = _label_probability(glimpse.logits, labels.repeat(repeats)).view(repeats, taken)
        self._record(rows, Glimpse(*(part[:taken] for part in glimpse)), corners[:taken].numpy())
        if is_contrastive:
            reward = contrastive_reward(probability[0], probability[1:])
        else:
            reward = increment_reward(probability[0], torch.from_numpy(before))
        return reward.numpy().astype(np.float64)

    def observation(self) -> dict[str, np.ndarray]:
        """All rows' observations, as arrays of the caller's own: no later step changes them, nor they a later step.

        Returns:
            `features` (B, C, h, w) and `hidden` (B, F_h), float32, as far as the rules let them be observed.
        """
        return {key: getattr(self, key).cpu().numpy().copy() for key in OBSERVATION_KEYS if key in self.spec.observe}

    def info(self) -> dict[str, np.ndarray]:
        """All rows' labels, predictions and costs after their last step.

        Returns:
            Arrays of B entries: `index`, `label`, `box`, `prediction`, `confidence`, `label_probability`,
            `top_left_px` ((-1, -1) after the glance), `patch_size`, `multiply_adds`, `stopped`.
        """
        trace, rows = self.trace, np.arange(self.batch_size)
        last = np.maximum(trace.steps, 1) - 1
        return {
            "index": trace.index.copy(),
            "label": trace.label.copy(),
            "box": trace.box.copy(),
            "prediction": trace.prediction[rows, last],
            "confidence": trace.confidence[rows, last],
            "label_probability": trace.label_probability[rows, last],
            "top_left_px": trace.top_left_px[rows, last],
            "patch_size": np.full(self.batch_size, self.patch_size),
            "multiply_adds": trace.multiply_adds.copy(),
            "stopped": trace.stopped.copy(),
        }

    def _record(self, rows: np.ndarray, glimpse: Glimpse, corners: np.ndarray) -> None:
        self.features = _with_rows(self.features, rows, glimpse.features)
        self.hidden = _with_rows(self.hidden, rows, glimpse.hidden)
        probabilities = glimpse.logits.float().softmax(dim=1).cpu()  # (R, K)
        confidence, prediction = probabilities.max(dim=1)
        trace, step = self.trace, self.trace.steps[rows]
        labels = torch.from_numpy(trace.label[rows])
        trace.top_left_px[rows, step] = corners
        trace.prediction[rows, step], trace.confidence[rows, step] = prediction.numpy(), confidence.numpy()
        trace.label_probability[rows, step] = probabilities.gather(1, labels[:, None])[:, 0].numpy()
        trace.steps[rows] += 1
        trace.multiply_adds[rows] += self.costs[step]

    def _is_over(self, rows: np.ndarray) -> np.ndarray:
        steps = self.trace.steps[rows]
        done: np.ndarray = steps >= self.num_glimpses
        if self.spec.exit_confidence is not None:
            done = done | (self.trace.confidence[rows, steps - 1] > self.spec.exit_confidence)
        return done


def _rows_of(whole: Tensor, rows: np.ndarray) -> Tensor:
    """Some rows of a tensor, without a copy where they are all of them."""
    return whole if len(rows) == len(whole) else whole[torch.from_numpy(rows).to(whole.device)]


def _with_rows(whole: Tensor, rows: np.ndarray, values: Tensor) -> Tensor:
    """A tensor with some of its rows replaced, without a copy where they are all of them."""
    if len(rows) == len(whole):
        return values
    whole[torch.from_numpy(rows).to(whole.device)] = values
    return whole


def _label_probability(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.float().softmax(dim=1).cpu().gather(1, labels[:, None])[:, 0]


def _check_fit(classifier: FrozenClassifier, source: ImageSource, spec: EpisodeSpec) -> None:
    shape, names = classifier.spec, source.class_names
    if len(source) == 0:
        raise ValueError("the data set holds no image; pass one with at least one")
    if len(names) != classifier.num_classes:
        raise ValueError(
            f"the classifier knows {classifier.num_classes} classes, the data set has {len(names)}; "
            "pass a classifier that was trained on these classes"
        )
    height, width = source.image_size
    for field, side in (("patch_size", shape.patch_size), ("glance_size", shape.glance_side)):
        if side > min(height, width):
            raise ValueError(
                f"{field}={side} exceeds the {height}x{width} image; pass a smaller {field} or a larger image_size"
            )
    if shape.head == "cascade" and (spec.num_glimpses or 0) > shape.num_glimpses:
        raise ValueError(
            f"num_glimpses={spec.num_glimpses} exceeds the cascade's {shape.num_glimpses} classifiers; "
            f"pass at most {shape.num_glimpses}"
        )
