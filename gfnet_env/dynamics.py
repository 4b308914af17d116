"""The batched dynamics in torch; the single and the vector environment are shells around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from classifiers.data.source import ImageSource
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.geometry import top_left_px
from classifiers.networks.glimpse import Glimpse, Readout, View, summarize_logits
from gfnet_env.actions import Decisions, to_decisions
from gfnet_env.episode import EpisodeSpec
from gfnet_env.glance_cache import GlanceCache
from gfnet_env.observation import PIXEL_KEYS, observation_keys, observe
from gfnet_env.rewards import reward_arguments, reward_of
from gfnet_env.row_images import RowImages
from gfnet_env.sampling import Draws, parse_patch_sizes_option
from gfnet_env.score import ScoreScale
from gfnet_env.trace import Trace, check_shape, look_record

_SAVED = ("features", "hidden", "pooled", "glance", "locations")  # of the episodes' tensors; images are fetched again


class GlanceFocusDynamics:
    """B episodes side by side, each on its own image.

    Args:
        classifier: the frozen networks, on the device where everything is computed.
        source: the images.
        spec: the rules.
        batch_size: number B of rows.
        scale: of the scores; None where none is known.

    Attributes:
        computes_all_rows: whether a step that not all rows take is computed for all of them nevertheless, so that an
            accelerator always sees the same shapes; on a CPU only these rows are computed.
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
        self._costs = torch.from_numpy(self.costs).to(self.device)
        self._sides = torch.tensor(classifier.spec.patch_sizes, device=self.device)  # (K,)
        blank = classifier.local_encoder.blank(source.image_size).to(torch.uint8)  # an image, or a clip
        self._images = RowImages(source, blank, batch_size, self.device)
        self._reward_arguments = reward_arguments(spec.reward)
        self.computes_all_rows = self.device.type != "cpu"
        self._all_rows = torch.arange(batch_size, device=self.device)
        self.features = torch.zeros(batch_size, *classifier.feature_shape(), device=self.device, dtype=torch.float32)
        self.hidden = torch.zeros(batch_size, classifier.hidden_size, device=self.device, dtype=torch.float32)
        pooled_size = classifier.local_encoder.pooled_size
        self.pooled = torch.zeros(batch_size, pooled_size, device=self.device, dtype=torch.float32)
        self.glance = torch.zeros_like(self.features)
        self.locations = torch.zeros(batch_size, self.num_glimpses - 1, 2, device=self.device, dtype=torch.float32)
        self.trace = Trace.empty(batch_size, self.num_glimpses, source.num_boxes, self.device)
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

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W) or, clips, (B, F, 3, H, W) uint8, the image of each row, as a copy or not."""
        return self._images.of_rows()

    @torch.inference_mode()
    def reset(self, rows: np.ndarray, indices: np.ndarray, draws: Draws, sizes: np.ndarray | None = None) -> None:
        """Starts an episode in some rows: fetches their images and takes the first glimpse.

        Args:
            rows: (R,) int64, which rows.
            indices: (R,) int64, which images of the source.
            draws: the random first locations and patch sizes.
            sizes: (R, T - 1) int64, indices of the patches' sizes; None draws them.
        """
        some, trace, on_cpu = self._some(rows), self.trace, torch.from_numpy(indices)
        labels, boxes = self._images.fetch(rows, on_cpu)
        location = self._first_location(rows, draws)
        place = self._images.place[some]
        if self._glances is None:
            glimpse = self.classifier.glance(self._images.pool[place], location)
        else:
            glimpse = self._glances.glance(on_cpu, self._images.pool, place)
        trace.index[some], trace.label[some], trace.boxes[some] = (
            each.to(self.device) for each in (on_cpu, labels, boxes)
        )
        trace.steps[some], trace.multiply_adds[some], trace.earned[some] = 1, int(self.costs[0, 0]), 0.0
        trace.stopped[some], trace.finished[some] = False, False
        if len(self.patch_sizes) > 1:
            if sizes is None and not self.spec.size_action:
                trace.size[some] = draws.sizes(rows, len(self.patch_sizes), self.num_glimpses - 1).to(self.device)
            else:
                trace.size[some] = 0 if sizes is None else torch.from_numpy(sizes).to(self.device)
        self.glance = _with_rows(self.glance, some, glimpse.features.clone())  # features are written to
        self.locations[some] = 0.0
        self._take(some, glimpse)
        if location is None:
            seen = glimpse.hidden.new_tensor((torch.nan, torch.nan, -1.0, -1.0)).expand(len(rows), 4)
        else:
            seen = self._seen_at(location, self.classifier.spec.glance_side)
        trace.looks[some, 0] = look_record(seen, summarize_logits(glimpse.logits, trace.label[some]))

    def _first_location(self, rows: np.ndarray, draws: Draws) -> Tensor | None:
        if self.classifier.spec.first_look == "random":
            return draws.first_places(rows).to(self.device)
        return self.classifier.first_location(len(rows))

    def _some(self, rows: np.ndarray) -> slice | Tensor:
        """(R,) int64 on the device; a slice, which is faster, where these are all rows."""
        return slice(None) if len(rows) == self.batch_size else torch.from_numpy(rows).to(self.device)

    def decisions(self, actions: np.ndarray | Tensor) -> Decisions:
        """Reads the actions of all rows, (B, A); raises a `ValueError` if they don't fit the action space."""
        return to_decisions(actions, self.batch_size, self.spec.action_names, len(self.patch_sizes), self.device)

    def parse_patch_sizes_option(self, sides: Any) -> np.ndarray:
        """Reads the reset option `patch_sizes`: (B, T - 1) int64 indices of sizes, or a `ValueError`."""
        if self.spec.size_action:
            raise ValueError("patch_sizes with size_action; leave the option out: the agent chooses the sizes")
        return parse_patch_sizes_option(sides, self.batch_size, self.num_glimpses - 1, self.patch_sizes)

    @torch.inference_mode()
    def step(self, active: np.ndarray, decisions: Decisions, draws: Draws) -> tuple[Tensor, Tensor]:
        """Takes a focus step in the active rows, or ends their episodes.

        Stopping costs and earns nothing: no patch is encoded, the prediction stays, and the reward is 0.

        Args:
            active: (B,) bool, which rows take part; all others keep their state.
            decisions: of all rows; those of inactive rows are not used.
            draws: the reward's random crops.

        Returns:
            reward (B,) float32 and terminated (B,) bool, 0 and false in inactive rows.
        """
        taking = active & ~decisions.stops
        rows = np.flatnonzero(taking)
        if len(rows) == self.batch_size:
            return self._focus(rows, slice(None), decisions, draws)
        stopping = torch.from_numpy(active & decisions.stops).to(self.device)
        self.trace.stopped |= stopping
        self.trace.finished |= stopping
        reward, over = torch.zeros_like(stopping, dtype=torch.float32), torch.zeros_like(stopping)
        if self.computes_all_rows:
            reward, over = self._focus_masked(rows, torch.from_numpy(taking).to(self.device), decisions, draws)
        elif len(rows):
            some = torch.from_numpy(rows).to(self.device)
            reward[some], over[some] = self._focus(rows, some, decisions.select(rows), draws)
        return reward, over | stopping

    def _focus_masked(
        self, rows: np.ndarray, mask: Tensor, decisions: Decisions, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """`_focus` in the rows of a mask, (B,) bool, computed for all rows: the others get back what they had."""
        kept = (self, ("features", "hidden", "pooled", "locations")), (self.trace, tuple(vars(self.trace)))
        before = [(owner, name, getattr(owner, name).clone()) for owner, names in kept for name in names]
        self.trace.steps.masked_fill_(~mask, 1)  # a finished row has no room for another look
        reward, over = self._focus(rows, slice(None), decisions, draws)
        for owner, name, old in before:
            new = getattr(owner, name)
            new.copy_(torch.where(mask.view(-1, *[1] * (new.ndim - 1)), new, old))
        return torch.where(mask, reward, 0.0), over & mask

    def _focus(
        self, rows: np.ndarray, some: slice | Tensor, decisions: Decisions, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Takes a patch in R rows; their reward and end. The reward's random crops share the forward pass.

        Args:
            rows: those whose random crops are drawn.
            some: those that are computed, R of them.
            decisions: of these R rows.
            draws: the reward's random crops.
        """
        trace, location = self.trace, decisions.location
        where, last = self._all_rows[some], trace.steps[some] - 1  # (R,) row, and index of its last glimpse
        if decisions.size is not None:
            trace.size[where, last] = decisions.size
        size: int | Tensor = 0 if len(self.patch_sizes) == 1 else trace.size[where, last]
        price = self._price(last + 1, size)
        label, before = trace.label[some], trace.looks[where, last]
        glimpse, found = self._look(rows, some, location, size, label, draws)
        self._take(some, glimpse)
        self.locations[where, last] = location
        side = self.patch_sizes[size] if isinstance(size, int) else self._sides[size]
        trace.looks[where, last + 1] = look_record(
            self._seen_at(location, side), Readout(*(v[0] for v in found if v is not None))
        )
        trace.steps[some] = last + 2
        trace.multiply_adds[some] += self._costs[last + 1, size]
        assert found.label_probability is not None
        over = last + 2 >= self.num_glimpses
        if self.spec.exit_confidence is not None:
            over = over | (found.confidence[0] > self.spec.exit_confidence)
        given = {
            "probability": found.label_probability[0],
            "previous_probability": before[:, 7],
            "random_probabilities": found.label_probability[1:],
            "entropy": found.entropy[0],
            "previous_entropy": before[:, 6],
            "is_right": found.prediction[0] == label,
            "is_last": over,
        }
        asked = {name: given[name] for name in self._reward_arguments}
        reward = reward_of(self.spec.reward, asked, len(location)).to(self.device, torch.float32) - price
        trace.earned[some] += reward
        trace.finished[some] = over
        return reward, over

    def _look(
        self, rows: np.ndarray, some: slice | Tensor, location: Tensor, size: int | Tensor, label: Tensor, draws: Draws
    ) -> tuple[Glimpse, Readout]:
        """The glimpses of R patches; what the classifier says of these and of S random ones each, (1 + S, R)."""
        hidden, place, taken = self.hidden[some], self._images.place[some], len(location)
        samples = self.spec.reward_samples if "random_probabilities" in self._reward_arguments else 0
        if samples:
            random = draws.places(rows, samples).to(self.device)[:, some]  # (S, R, 2)
            location = torch.cat([location, random.flatten(0, 1)])
            hidden, place, label = hidden.repeat(1 + samples, 1), place.repeat(1 + samples), label.repeat(1 + samples)
            size = size if isinstance(size, int) else size.repeat(1 + samples)
        glimpse = self.classifier.look(self._images.pool, location, hidden, place, size)
        found = summarize_logits(glimpse.logits, label)
        by_sample = Readout(*(values.view(1 + samples, taken) for values in found if values is not None))
        return Glimpse(*(part[:taken] for part in glimpse)), by_sample

    def _price(self, step: Tensor, size: int | Tensor) -> float | Tensor:
        """What the next patch costs in some rows, in units of the reward, one number or (R,) float32."""
        if self.spec.price is None:
            return float(self.spec.step_cost)
        return self._costs[step, size].float() * (self.spec.price / float(self.costs[1:].max()))

    def _take(self, some: slice | Tensor, glimpse: Glimpse) -> None:
        """Replaces some rows' last glimpse."""
        self.features = _with_rows(self.features, some, glimpse.features)
        self.hidden = _with_rows(self.hidden, some, glimpse.hidden)
        self.pooled = _with_rows(self.pooled, some, glimpse.pooled)

    def _seen_at(self, location: Tensor, side: int | Tensor) -> Tensor:
        """(R, 4) float32, locations and corners in pixels of patches of one side or of (R,) sides."""
        height, width = self.source.image_size
        return torch.cat([location, top_left_px(location, (height, width), side).float()], dim=1)

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
        self._images.fetch(np.arange(self.batch_size), self.trace.index.cpu())

    def view(self) -> View:
        """What there is to see in all rows; logits are left out."""
        return self._view(self._images.of_rows())

    def _view(self, images: Tensor | None) -> View:
        trace = self.trace
        glimpse = Glimpse(self.features, self.hidden, self.hidden[:, :0], self.pooled)
        first = None if self.classifier.spec.first_look == "glance" else trace.location[:, 0]
        last, following = self._sizes_seen()
        seen = glimpse, self.glance, self.locations, trace.steps, images, trace.label, first, last, following
        return View(*seen, boxes=trace.boxes, spec=self.classifier.spec)

    def _sizes_seen(self) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """(B, K) one-hots of the last and the next patch's size; zeros where there is none or the agent chooses."""
        if len(self.patch_sizes) == 1:
            return None, None
        steps, size = self.trace.steps, self.trace.size
        shown = torch.eye(len(self.patch_sizes), device=self.device)
        last = shown[size[self._all_rows, (steps - 2).clamp(min=0)]] * (steps > 1)[:, None]
        is_known = (steps < self.num_glimpses) & (not self.spec.size_action)
        following = (steps - 1).clamp(min=0, max=self.num_glimpses - 2)
        return last, shown[size[self._all_rows, following]] * is_known[:, None]

    def observation(self) -> dict[str, Tensor]:
        """All rows' observations, as copies: no later step changes them, nor do they change a later step.

        Returns:
            What `gfnet_env.observation.observe` returns for the rules' keys.
        """
        needs_images = not set(self.observation_keys).isdisjoint(PIXEL_KEYS)
        view = self._view(self._images.of_rows() if needs_images else None)
        return {key: value.clone() for key, value in observe(view, self.observation_keys).items()}

    def info(self) -> dict[str, Tensor]:
        """All rows' labels, predictions and costs after their last step, as copies.

        Returns:
            Tensors of B entries; `GlanceFocusEnv` says what each key holds. `is_success` and `score` are false and 0
            before the end of an episode.
        """
        trace, look = self.trace, self.trace.last_look()
        side = torch.full_like(trace.steps, self.patch_sizes[-1])
        if len(self.patch_sizes) > 1:
            taken = self._sides[trace.size[self._all_rows, (trace.steps - 2).clamp(min=0)]]
            side = torch.where(trace.steps > 1, taken, side)
        prediction = look[:, 4].long()
        is_success = (prediction == trace.label) & trace.finished
        found = {
            "index": trace.index.clone(),
            "label": trace.label.clone(),
            "boxes": trace.boxes.clone(),
            "step": trace.steps.clone(),
            "prediction": prediction,
            "confidence": look[:, 5],
            "entropy": look[:, 6],
            "label_probability": look[:, 7],
            "location": look[:, :2],
            "top_left_px": look[:, 2:4].long(),
            "patch_size": side,
            "multiply_adds": trace.multiply_adds.clone(),
            "stopped": trace.stopped.clone(),
            "is_success": is_success,
        }
        if self.scale is None:
            return found
        values = trace.earned if self.scale.of == "return" else is_success.float()
        return {**found, "score": torch.where(trace.finished, self.scale.score(values), 0.0)}

    def is_right(self) -> Tensor:
        """Whether the prediction after the last step is the true label, (B,) bool."""
        return self.trace.last_look()[:, 4].long() == self.trace.label


def _with_rows(whole: Tensor, some: slice | Tensor, values: Tensor) -> Tensor:
    """A tensor with some of its rows replaced, without a copy where they are all of them."""
    if isinstance(some, slice):
        return values
    whole[some] = values
    return whole


def to_numpy(tree: dict[str, Any]) -> dict[str, Any]:
    """Tensors on the CPU, copied from an accelerator in one transfer.

    Args:
        tree: tensors by name, or dictionaries of them.

    Returns:
        The same with arrays; those of tensors on the CPU share their memory.
    """
    tensors = list(_leaves(tree))
    if tensors and tensors[0].device.type != "cpu":
        ordered = sorted(range(len(tensors)), key=lambda index: -tensors[index].element_size())  # keeps them aligned
        flat = torch.cat([tensors[index].contiguous().flatten().view(torch.uint8) for index in ordered]).cpu()
        parts = flat.split([tensors[index].nbytes for index in ordered])
        for index, part in zip(ordered, parts, strict=True):
            tensors[index] = part.view(tensors[index].dtype).view(tensors[index].shape)
    arrays = iter([each.numpy() for each in tensors])
    return _filled(tree, arrays)


def _leaves(tree: dict[str, Any]) -> Iterator[Tensor]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


def _filled(tree: dict[str, Any], arrays: Iterator[np.ndarray]) -> dict[str, Any]:
    return {key: _filled(value, arrays) if isinstance(value, dict) else next(arrays) for key, value in tree.items()}
