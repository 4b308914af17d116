"""A trained run as a recogniser that stops as soon as it is confident enough (Section 3.1, Inference)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.evaluation.budgets import fit_exit_rule
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.rollout import cumulative_multiply_adds
from agents.evaluation.stopping import ExitRule
from agents.policies.protocol import LookPolicy
from agents.recognition.images import Images, as_batch
from agents.runs.fingerprint import load_run_record
from agents.runs.folder import RunFolder
from agents.runs.loaded import load_run
from classifiers.data.decoding import UnreadableImageError, decode_image
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.glimpse import Glimpse, View
from classifiers.networks.readout import read_out

_BYTES_AT_ONCE = 1 << 29  # of decoded files; the last batches of each lot are not full


class Recognition(NamedTuple):
    """Predictions for N images.

    Attributes:
        label: (N,) int64 classes.
        confidence: (N,) float32 probabilities of these classes.
        step: (N,) int64 steps taken, the glance included: 1 to T.
        locations: (N, T - 1, 2) float32 locations of the patches, (row, col) in [0, 1]; NaN after the last one.
        multiply_adds: (N,) int64 cost.
    """

    label: np.ndarray
    confidence: np.ndarray
    step: np.ndarray
    locations: np.ndarray
    multiply_adds: np.ndarray


class Recognizer:
    """Looks at images until it is confident enough, within a budget.

    Finished images leave the batch and the remaining ones are regrouped, so that the encoders run on full batches
    however many images exit. Patches of different steps share a forward pass.

    Args:
        classifier: the frozen networks.
        policy: where to look next.
        class_names: names of the K classes, by label.
        image_size: (H, W) in pixels of the training images; other sizes work if the content has a similar scale.
        crop_pct: fraction of each side of an image file that the centre crop keeps.
        interpolation: how image files are resized, `"bilinear"` or `"bicubic"`.
        calibration: record of the images that thresholds are fitted on; needed for budgets.
        batch_size: images in a forward pass. Large batches read the many weights of policy and f_C once for all images;
            compiled encoders split them into micro-batches that fit into the caches of CPUs.

    Raises:
        ValueError: if `batch_size` is below 1, or the calibration has another number of steps.
    """

    def __init__(
        self,
        classifier: FrozenClassifier,
        policy: LookPolicy,
        *,
        class_names: tuple[str, ...] = (),
        image_size: tuple[int, int] | None = None,
        crop_pct: float = 1.0,
        interpolation: str = "bilinear",
        calibration: EvaluationRecord | None = None,
        batch_size: int = 128,
    ) -> None:
        steps = classifier.spec.num_glimpses
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; pass 1 or more")
        if calibration is not None and len(calibration.multiply_adds) != steps:
            raise ValueError(
                f"the calibration has {len(calibration.multiply_adds)} steps, the recogniser {steps}; run "
                "`gfnet evaluate` on the run again"
            )
        self.classifier = classifier
        self.policy = policy
        self.class_names = class_names
        self.image_size = image_size
        self.crop_pct = crop_pct
        self.interpolation = interpolation
        self.calibration = calibration
        self.batch_size = batch_size
        self.cumulative_multiply_adds = np.array(cumulative_multiply_adds(classifier, policy.multiply_adds))
        self.use()

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        budget: float | None = None,
        thresholds: Sequence[float] | None = None,
        num_glimpses: int | None = None,
        criterion: str = "confidence",
        method: str = "coordinate_ascent",
        batch_size: int = 128,
        compile: bool = False,
    ) -> Recognizer:
        """Loads a run; see `use` for what decides when to stop.

        Args:
            folder: the run's.
            budget: see `use`.
            thresholds: see `use`.
            num_glimpses: see `use`.
            criterion: see `use`.
            method: see `use`.
            batch_size: see the class.
            compile: also compile the encoders (20 to 60 s once).

        Returns:
            The recogniser.

        Raises:
            FileNotFoundError: if the run, its policy or, for a budget, its evaluation is missing.
            ValueError: if something does not fit.
        """
        run = load_run(folder)
        has_record = RunFolder(Path(folder)).record("calibration").is_file()
        recognizer = cls(
            frozen(run.classifier, compile=compile),
            run.policy,
            class_names=run.class_names,
            image_size=run.config.data.image_size,
            crop_pct=run.config.data.crop_pct,
            interpolation=run.config.data.interpolation,
            calibration=load_run_record(run.config, Path(folder), "calibration")
            if has_record or budget is not None
            else None,
            batch_size=batch_size,
        )
        recognizer.use(
            budget=budget, thresholds=thresholds, num_glimpses=num_glimpses, criterion=criterion, method=method
        )
        return recognizer

    def use(
        self,
        *,
        budget: float | None = None,
        thresholds: Sequence[float] | None = None,
        num_glimpses: int | None = None,
        criterion: str = "confidence",
        method: str = "coordinate_ascent",
    ) -> None:
        """Sets when to stop, from the next call on; without arguments, after all T steps.

        Args:
            budget: multiply-adds per image, on average over images like those of the calibration.
            thresholds: T - 1 of them, see `agents.evaluation.stopping.ExitRule`.
            num_glimpses: always take so many steps, 1 to T.
            criterion: `"confidence"` or `"entropy"`.
            method: how thresholds are fitted to a budget, one of `agents.evaluation.budgets.METHODS`.

        Raises:
            FileNotFoundError: if a budget is passed and there is no calibration.
            ValueError: if more than one is passed, or something is out of range.
        """
        given = {"budget": budget, "thresholds": thresholds, "num_glimpses": num_glimpses}
        names = [name for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} were passed; pass one of them")
        if criterion not in ("confidence", "entropy"):
            raise ValueError(f"criterion={criterion!r}; pass 'confidence' or 'entropy'")
        last = self.classifier.spec.num_glimpses
        if budget is not None:
            if self.calibration is None:
                raise FileNotFoundError("there is no calibration for a budget; run `gfnet evaluate` on the run first")
            self.rule = fit_exit_rule(self.calibration, budget, criterion=criterion, method=method)
            return
        if thresholds is None:
            steps = last if num_glimpses is None else num_glimpses
            if not 1 <= steps <= last:
                raise ValueError(f"num_glimpses={steps}; pass 1 to {last}")
            thresholds = [np.inf] * (steps - 1) + [-np.inf] * (last - steps)
        rule = ExitRule.of(criterion, thresholds)
        rule.array(last)
        self.rule = rule

    def predict_files(
        self, paths: Sequence[Path], on_unreadable: Callable[[Path, UnreadableImageError], object] | None = None
    ) -> Recognition:
        """Recognises image files, each brought to the size of the training images.

        Args:
            paths: one or more.
            on_unreadable: told of each file that can't be decoded, which is then left out of the results; None raises.

        Returns:
            See `predict`.

        Raises:
            UnreadableImageError: if a file can't be decoded and `on_unreadable` is None, or if none can.
            ValueError: if there is no file, or the size of the training images is not known.
        """
        if not paths:
            raise ValueError("paths is empty; pass a file or more")

        def decoded(path: Path) -> list[np.ndarray]:
            try:
                return [self.decode(path)]
            except UnreadableImageError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(path, error)
                return []

        height, width = self.image_size or (1, 1)
        lot = max(self.batch_size, _BYTES_AT_ONCE // (3 * height * width))
        lots = (paths[start : start + lot] for start in range(0, len(paths), lot))
        readable = ([pixels for path in lot for pixels in decoded(path)] for lot in lots)
        parts = [self.predict(np.stack(images)) for images in readable if images]
        if not parts:
            raise UnreadableImageError(f"none of the {len(paths)} files can be decoded; pass image files")
        return Recognition(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def decode(self, path: Path) -> np.ndarray:
        """Reads an image file as those that the networks were trained on.

        Args:
            path: the file.

        Returns:
            (H, W, 3) uint8.

        Raises:
            UnreadableImageError: if it can't be decoded.
            ValueError: if the size of the training images is not known.
        """
        if self.image_size is None:
            raise ValueError("image_size is not known; pass it to the recogniser, or images to `predict`")
        return decode_image(path, self.image_size, self.crop_pct, self.interpolation)

    @torch.inference_mode()
    def predict(self, images: Images) -> Recognition:
        """Recognises images.

        Args:
            images: one or more, all of one size, each side at least the patch's and the glance's; see `Images`.

        Returns:
            What they show and what it took.

        Raises:
            ValueError: if there is no image, or they have several sizes, another type, or hold NaN.
        """
        batch = as_batch(images, self.classifier.spec.largest_side)
        episodes = _Episodes(self, batch.to(self.classifier.device))
        first_new = 0
        while first_new < len(batch) or len(episodes.going_on):
            if first_new < len(batch) and len(episodes.going_on) < self.batch_size:
                episodes.glance(first_new, first_new + self.batch_size)
                first_new += self.batch_size
            else:
                episodes.focus()
        if not torch.isfinite(episodes.confidences).all():
            raise ValueError("the networks' predictions are NaN for some images; check the weights and the pixels")
        steps = episodes.steps.cpu().numpy()
        return Recognition(
            label=episodes.labels.cpu().numpy(),
            confidence=episodes.confidences.cpu().numpy(),
            step=steps,
            locations=episodes.locations.cpu().numpy(),
            multiply_adds=self.cumulative_multiply_adds[steps - 1],
        )


class _Episodes:
    """N episodes, each at its own step."""

    def __init__(self, recognizer: Recognizer, images: Tensor) -> None:
        self.images = images
        self._of = recognizer
        self._first = recognizer.classifier.first_location(len(images), torch.Generator().manual_seed(0))
        count, last, device = len(images), recognizer.classifier.spec.num_glimpses, images.device
        self.steps = torch.zeros(count, dtype=torch.int64, device=device)
        self.labels = torch.zeros(count, dtype=torch.int64, device=device)
        self.confidences = torch.zeros(count, device=device)
        self.locations = torch.full((count, last - 1, 2), torch.nan, device=device)
        self.going_on = torch.zeros(0, dtype=torch.int64, device=device)  # indices, in the order of their last look
        self._hidden = torch.zeros(count, recognizer.classifier.hidden_size, device=device)
        self._features = torch.zeros(0, device=device)  # (W, C, h, w) of `going_on`, in the same order
        self._glances = torch.zeros(0, device=device)  # likewise of the glances, if the policy reads them
        self._keeps_glances = "glance" in recognizer.policy.observes
        self._states: Tensor | None = None  # (N, ...) of the policy if it has a memory, which starts at zero
        limits = [*(max(row) for row in recognizer.rule.thresholds), -np.inf]
        self._limits = torch.tensor(limits, dtype=torch.float64, device=device)

    def glance(self, start: int, stop: int) -> None:
        """The first step of the episodes `start` to `stop`."""
        images = self.images[start:stop]  # a view
        indices = torch.arange(start, start + len(images), device=images.device)
        glimpse = self._of.classifier.glance(images, None if self._first is None else self._first[indices])
        self._settle(indices, glimpse, glimpse.features)

    def focus(self) -> None:
        """The next step of those that have waited longest, one batch of them."""
        size = self._of.batch_size
        indices, self.going_on = self.going_on[:size], self.going_on[size:]
        features, self._features = self._features[:size], self._features[size:]
        glances, self._glances = self._glances[:size], self._glances[size:]
        glimpse = Glimpse(features, self._hidden[indices], features[:0], features[:0])
        location = self._locate(indices, glimpse, glances)
        self._settle(indices, self._of.classifier.look(self.images, location, glimpse.hidden, indices), glances)

    def _locate(self, indices: Tensor, glimpse: Glimpse, glances: Tensor) -> Tensor:
        """Where these look next; decided only now, so that the policy sees full batches too."""
        states = None if self._states is None else self._states[indices]
        first = None if self._first is None else self._first[indices]
        locations = self.locations[indices].nan_to_num(0.0)
        view = View(glimpse, glances, locations, self.steps[indices], first_location=first)
        location, states = self._of.policy(view, states)
        self.locations[indices, self.steps[indices] - 1] = location
        if states is not None:
            if self._states is None:
                self._states = states.new_zeros(len(self.images), *states.shape[1:])
            self._states[indices] = states
        return location

    def _settle(self, indices: Tensor, glimpse: Glimpse, glances: Tensor) -> None:
        """Records a glimpse; confident images exit and the others wait for their next look."""
        found = read_out(glimpse.logits)
        self.labels[indices], self.confidences[indices] = found.prediction, found.confidence
        self.steps[indices] += 1
        score = -found.entropy if self._of.rule.criterion == "entropy" else found.confidence
        stays = score <= self._limits[self.steps[indices] - 1]
        remaining = indices[stays]
        self._hidden[remaining] = glimpse.hidden[stays]
        self._features = _joined(self._features, glimpse.features[stays])
        if self._keeps_glances:
            self._glances = _joined(self._glances, glances[stays])
        self.going_on = torch.cat([self.going_on, remaining])


def _joined(waiting: Tensor, new: Tensor) -> Tensor:
    return torch.cat([waiting, new]) if len(waiting) else new
