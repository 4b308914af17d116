"""The batched dynamics in torch; the single and the vector environment are shells around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from classifiers.data.source import ImageSource
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.geometry import top_left_px
from classifiers.networks.glimpse import Glimpse, View, summarize_logits
from gfnet_env.actions import Decisions, to_decisions
from gfnet_env.episode import EpisodeSpec
from gfnet_env.glance_cache import GlanceCache
from gfnet_env.observation import observation_keys, observe
from gfnet_env.rewards import reward_of
from gfnet_env.sampling import parse_patch_sizes_option, sample_sizes
from gfnet_env.score import ScoreScale
from gfnet_env.trace import Trace, check_shape

_SAVED = ("features", "hidden", "glance", "locations")  # of the episodes' tensors; images are fetched again


class GlanceFocusDynamics:
    """B episodes side by side, each on its own image.

    Args:
        classifier: the frozen networks, on the device where everything is computed.
        source: the images.
        spec: the rules.
        batch_size: number B of rows.
        scale: of the scores; None where none is known.
    """

    def __init__(
        self,
        classifier: FrozenClassifier,
        source: ImageSource,
        spec: EpisodeSpec,
        batch_size: int,
        scale: ScoreScale | None = None,
    ) -> None:
        self.classifier = classifier
        self.source = source
        self.spec = spec
        self.batch_size = batch_size
        self.scale = scale
        sizes = range(len(classifier.spec.patch_sizes))
        if spec.size_action and len(sizes) == 1:
            raise ValueError("size_action, but all patches have one size; pass patch_sizes, for example (32, 48, 64)")
        self.observation_keys = observation_keys(spec.observe, len(sizes), size_action=spec.size_action)
        self.costs = np.array([glimpse_costs(classifier, size) for size in sizes]).T  # (T, K) multiply-adds
        self.device = classifier.device
        blank = classifier.local_encoder.blank(source.image_size).to(torch.uint8)  # an image, or a clip
        self.images = blank.expand(batch_size, *blank.shape[1:]).clone()
        self.features = torch.zeros(batch_size, *classifier.feature_shape(), device=self.device, dtype=torch.float32)
        self.hidden = torch.zeros(batch_size, classifier.hidden_size, device=self.device, dtype=torch.float32)
        self.glance = torch.zeros_like(self.features)
        self.locations = torch.zeros(batch_size, self.num_glimpses - 1, 2, device=self.device, dtype=torch.float32)
        self.trace = Trace.empty(batch_size, self.num_glimpses, source.num_boxes)
        self._glances: GlanceCache | None = None
        if source.is_deterministic and classifier.spec.first_look != "random":
            self._glances = GlanceCache(classifier, len(source), batch_size)

    @property
    def num_glimpses(self) -> int:
        """Longest sequence T, the glance counted."""
        return self.classifier.spec.num_glimpses

    @property
    def patch_sizes(self) -> tuple[int, ...]:
        """The K sides that a patch may have, in pixels, ascending."""
        return self.classifier.spec.patch_sizes

    @torch.inference_mode()
    def reset(
        self,
        rows: np.ndarray,
        indices: np.ndarray,
        rngs: Sequence[np.random.Generator],
        sizes: np.ndarray | None = None,
    ) -> None:
        """Starts an episode in some rows: fetches their images and takes the first glimpse.

        Args:
            rows: (R,) int64, which rows.
            indices: (R,) int64, which images of the source.
            rngs: R generators, one for each of these rows; they draw a random first location and the patches' sizes.
            sizes: (R, T - 1) int64, indices of the patches' sizes; None draws them.
        """
        batch = self.source.fetch(torch.from_numpy(indices))
        images = batch.images.to(self.device, non_blocking=True)
        location = self._first_location(rngs)
        if self._glances is None:
            glimpse = self.classifier.glance(images, location)
        else:
            glimpse = self._glances.glance(torch.from_numpy(indices), images)
        self.images = _with_rows(self.images, rows, images)
        trace = self.trace
        trace.index[rows], trace.label[rows] = indices, batch.labels.numpy()
        trace.boxes[rows] = batch.boxes.numpy()
        trace.steps[rows], trace.multiply_adds[rows] = 0, 0
        trace.earned[rows], trace.stopped[rows] = 0.0, False
        self.glance = _with_rows(self.glance, rows, glimpse.features.clone())  # features are written to
        self.locations = _with_rows(self.locations, rows, torch.zeros_like(self.locations[: len(rows)]))
        if sizes is None and not self.spec.size_action:
            sizes = sample_sizes(rngs, len(self.patch_sizes), self.num_glimpses - 1)
        trace.size[rows] = 0 if sizes is None else sizes
        self._record(rows, glimpse, location, self.classifier.spec.glance_side)

    def _first_location(self, rngs: Sequence[np.random.Generator]) -> Tensor | None:
        if self.classifier.spec.first_look == "random":
            return torch.from_numpy(np.stack([rng.random(2, dtype=np.float32) for rng in rngs])).to(self.device)
        return self.classifier.first_location(len(rngs))

    def decisions(self, actions: np.ndarray) -> Decisions:
        """Reads the actions of all rows, (B, A); raises a `ValueError` if they don't fit the action space."""
        return to_decisions(actions, self.batch_size, self.spec.action_names, len(self.patch_sizes))

    def parse_patch_sizes_option(self, sides: Any) -> np.ndarray:
        """Reads the reset option `patch_sizes`: (B, T - 1) int64 indices of sizes, or a `ValueError`."""
        if self.spec.size_action:
            raise ValueError("patch_sizes with size_action; leave the option out: the agent chooses the sizes")
        return parse_patch_sizes_option(sides, self.batch_size, self.num_glimpses - 1, self.patch_sizes)

    @torch.inference_mode()
    def step(
        self, rows: np.ndarray, decisions: Decisions, rngs: Sequence[np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes a focus step in some rows, or ends their episodes.

        Stopping costs and earns nothing: no patch is encoded, the prediction stays, and the reward is 0.

        Args:
            rows: (R,) int64, which rows.
            decisions: of these R rows.
            rngs: R generators, one for each of these rows, for the reward's random crops.

        Returns:
            reward (R,) float64 and terminated (R,) bool.
        """
        reward, terminated = np.zeros(len(rows)), decisions.stops.copy()
        self.trace.stopped[rows] = decisions.stops
        going = np.flatnonzero(~decisions.stops)
        if len(going):
            taking = rows[going]
            if decisions.size is not None:
                self.trace.size[taking, self.trace.steps[taking] - 1] = decisions.size[going]
            price = self._price(taking)
            gain = self._focus(taking, decisions.location[going], [rngs[index] for index in going.tolist()])
            reward[going] = gain - price
            terminated[going] = self._is_over(taking)
            self.trace.earned[taking] += reward[going]
        return reward, terminated

    def _price(self, rows: np.ndarray) -> np.ndarray:
        """What the next patch costs in some rows, in units of the reward, (R,) float64."""
        if self.spec.price is None:
            return np.full(len(rows), float(self.spec.step_cost))
        steps = self.trace.steps[rows]
        costs: np.ndarray = self.costs[steps, self.trace.size[rows, steps - 1]]
        return costs * (self.spec.price / float(self.costs[1:].max()))

    def _focus(self, rows: np.ndarray, location: Tensor, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """The reward of a patch in some rows, (R,) float64; the reward's random crops share the forward pass."""
        taken = len(rows)
        samples = self.spec.reward_samples if self.spec.draws_patches else 0
        random = np.stack([rng.random((samples, 2), dtype=np.float32) for rng in rngs], axis=1)  # (S, R, 2)
        locations = torch.cat([location.float(), torch.from_numpy(random).flatten(0, 1)])  # ((1 + S) R, 2)
        which = torch.from_numpy(rows).to(self.device).repeat(1 + samples)
        sizes = self.trace.size[rows, self.trace.steps[rows] - 1]  # (R,)
        size = torch.from_numpy(sizes).to(self.device).repeat(1 + samples)
        glimpse = self.classifier.look(self.images, locations, self.hidden[which], which, size)
        before = self.trace.label_probability[rows, self.trace.steps[rows] - 1]
        labels = torch.from_numpy(self.trace.label[rows]).repeat(1 + samples)
        probability = summarize_logits(glimpse.logits, labels).label_probability
        assert probability is not None
        by_sample = probability.cpu().view(1 + samples, taken)
        where = torch.from_numpy(rows).to(self.device), torch.from_numpy(self.trace.steps[rows] - 1).to(self.device)
        self.locations[where] = location.to(self.locations)
        self._record(rows, Glimpse(*(part[:taken] for part in glimpse)), location, np.array(self.patch_sizes)[sizes])
        given = {
            "probability": by_sample[0],
            "previous_probability": torch.from_numpy(before),
            "random_probabilities": by_sample[1:],
            "is_right": torch.from_numpy(self.is_right()[rows]),
            "is_last": torch.from_numpy(self._is_over(rows)),
        }
        return reward_of(self.spec.reward, given).numpy().astype(np.float64)

    def state_dict(self) -> dict[str, Any]:
        """The episodes as they stand, for `load_state_dict`: tensors on the CPU, images only by their index."""
        saved = {name: getattr(self, name).cpu().clone() for name in _SAVED}
        return {**saved, "trace": self.trace.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues the episodes that `state_dict` returned; fetches their images again.

        Args:
            state: of dynamics with the same rules, networks, images and number of rows.

        Raises:
            ValueError: if its shapes are others.
        """
        self.trace.load_state_dict(state["trace"])
        for name in _SAVED:
            setattr(self, name, check_shape(state[name], getattr(self, name).shape).to(self.device, copy=True))
        self.images = self.source.fetch(torch.from_numpy(self.trace.index.copy())).images.to(self.device)

    def view(self) -> View:
        """What there is to see in all rows; logits and pooled vectors are left out."""
        nothing = self.hidden[:, :0]
        step = torch.from_numpy(self.trace.steps).to(self.device)
        labels = torch.from_numpy(self.trace.label).to(self.device)
        glimpse = Glimpse(self.features, self.hidden, nothing, nothing)
        is_glance = self.classifier.spec.first_look == "glance"
        first = None if is_glance else torch.from_numpy(self.trace.location[:, 0]).to(self.device)
        boxes = torch.from_numpy(self.trace.boxes).to(self.device)
        last, following = self._sizes_seen()
        seen = glimpse, self.glance, self.locations, step, self.images, labels, first, last, following
        return View(*seen, boxes=boxes, spec=self.classifier.spec)

    def _sizes_seen(self) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """(B, K) one-hots of the last and the next patch's size; zeros where there is none or the agent chooses."""
        if len(self.patch_sizes) == 1:
            return None, None
        rows, steps, size = np.arange(self.batch_size), self.trace.steps, self.trace.size
        shown = np.eye(len(self.patch_sizes), dtype=np.float32)
        last = shown[size[rows, np.maximum(steps - 2, 0)]] * (steps > 1)[:, None]
        is_known = (steps < self.num_glimpses) & (not self.spec.size_action)
        following = shown[size[rows, np.clip(steps - 1, 0, self.num_glimpses - 2)]] * is_known[:, None]
        return torch.from_numpy(last).to(self.device), torch.from_numpy(following).to(self.device)

    def observation(self) -> dict[str, np.ndarray]:
        """All rows' observations, as copies: no later step changes them, nor do they change a later step.

        Returns:
            What `gfnet_env.observation.observe` returns for the rules' keys, as arrays.
        """
        return {key: value.cpu().numpy().copy() for key, value in observe(self.view(), self.observation_keys).items()}

    def info(self) -> dict[str, np.ndarray]:
        """All rows' labels, predictions and costs after their last step.

        Returns:
            Arrays of B entries; `GlanceFocusEnv` says what each key holds.
        """
        trace, rows = self.trace, np.arange(self.batch_size)
        last = np.maximum(trace.steps, 1) - 1
        sides = np.array(self.patch_sizes)
        return {
            "index": trace.index.copy(),
            "label": trace.label.copy(),
            "boxes": trace.boxes.copy(),
            "step": trace.steps.copy(),
            "prediction": trace.prediction[rows, last],
            "confidence": trace.confidence[rows, last],
            "entropy": trace.entropy[rows, last],
            "label_probability": trace.label_probability[rows, last],
            "location": trace.location[rows, last],
            "top_left_px": trace.top_left_px[rows, last],
            "patch_size": np.where(last > 0, sides[trace.size[rows, np.maximum(last - 1, 0)]], sides[-1]),
            "multiply_adds": trace.multiply_adds.copy(),
            "stopped": trace.stopped.copy(),
        }

    def is_right(self) -> np.ndarray:
        """Whether the prediction after the last step is the true label, (B,) bool."""
        last = np.maximum(self.trace.steps, 1) - 1
        return np.asarray(self.trace.prediction[np.arange(self.batch_size), last] == self.trace.label)

    def results(self, finished: np.ndarray) -> dict[str, np.ndarray]:
        """What `info` says of episodes that have ended.

        Args:
            finished: (B,) bool, which have.

        Returns:
            `is_success` (B,) bool, false elsewhere; with a scale `score` (B,) float64, 0 elsewhere.
        """
        is_success = self.is_right() & finished
        if self.scale is None:
            return {"is_success": is_success}
        values = self.trace.earned if self.scale.of == "return" else is_success.astype(float)
        return {"is_success": is_success, "score": np.where(finished, self.scale.score(values), 0.0)}

    def _record(self, rows: np.ndarray, glimpse: Glimpse, location: Tensor | None, side: int | np.ndarray) -> None:
        """Records a glimpse of some rows: patches of a side, or of (R,) sides, at a location; None for a glance."""
        trace, step = self.trace, self.trace.steps[rows]
        self.features = _with_rows(self.features, rows, glimpse.features)
        self.hidden = _with_rows(self.hidden, rows, glimpse.hidden)
        if location is not None:
            size = (self.images.shape[-2], self.images.shape[-1])
            trace.location[rows, step] = location.cpu().numpy()
            corners = top_left_px(location, size, torch.as_tensor(side, device=location.device))
            trace.top_left_px[rows, step] = corners.cpu().numpy()
        else:
            trace.location[rows, step], trace.top_left_px[rows, step] = np.nan, -1
        found = summarize_logits(glimpse.logits, torch.from_numpy(trace.label[rows]))
        assert found.label_probability is not None
        trace.prediction[rows, step] = found.prediction.cpu().numpy()
        trace.confidence[rows, step] = found.confidence.cpu().numpy()
        trace.entropy[rows, step] = found.entropy.cpu().numpy()
        trace.label_probability[rows, step] = found.label_probability.cpu().numpy()
        trace.steps[rows] += 1
        trace.multiply_adds[rows] += self.costs[step, trace.size[rows, np.maximum(step, 1) - 1]]

    def _is_over(self, rows: np.ndarray) -> np.ndarray:
        steps = self.trace.steps[rows]
        done: np.ndarray = steps >= self.num_glimpses
        if self.spec.exit_confidence is not None:
            done = done | (self.trace.confidence[rows, steps - 1] > self.spec.exit_confidence)
        return done


def _with_rows(whole: Tensor, rows: np.ndarray, values: Tensor) -> Tensor:
    """A tensor with some of its rows replaced, without a copy where they are all of them."""
    if len(rows) == len(whole):
        return values
    whole[torch.from_numpy(rows).to(whole.device)] = values
    return whole
