"""A trained run as a recogniser that stops looking as soon as it is confident (Section 3.1, Inference)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from agents.evaluation.budgets import fit_exit_rule
from agents.evaluation.record import EvaluationRecord, load_record
from agents.evaluation.rollout import cumulative_multiply_adds
from agents.evaluation.stopping import ExitRule
from agents.policies.protocol import LookPolicy
from agents.runs.folder import RunFolder
from agents.runs.loaded import load_run
from classifiers.data.decoding import decode_image
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.glimpse import Glimpse, View
from classifiers.networks.readout import read_out

_BYTES_AT_ONCE = 1 << 29  # of decoded files; the last batches of each lot are not full

Images = Tensor | np.ndarray | Sequence[Any]
"""(N, 3, H, W) tensors, uint8 or normalised float32; (N, H, W, 3) uint8 arrays; or a sequence of single images as
tensors, arrays or PIL images, all of one size."""


class Recognition(NamedTuple):
    """What a recogniser makes of N images.

    Attributes:
        label: (N,) int64 classes.
        confidence: (N,) float32 probabilities of these classes.
        step: (N,) int64 steps taken, the glance counted: 1 to T.
        locations: (N, T - 1, 2) float32 where the patches lay, (row, col) in [0, 1]; NaN where none was looked at.
        multiply_adds: (N,) int64 spent.
    """

    label: np.ndarray
    confidence: np.ndarray
    step: np.ndarray
    locations: np.ndarray
    multiply_adds: np.ndarray


class Recognizer:
    """Looks at images until it is confident, as far as its budget goes.

    Images that are done leave the batch; those that go on are put together so that the encoders run on full batches,
    whatever the exits. Patches of different steps share a forward.

    Args:
        classifier: the frozen networks.
        policy: where to look next.
        class_names: names of the K classes, by label.
        image_size: (H, W) in pixels of the images that it was trained on; others work, as far as they look alike.
        crop_pct: share of each side of a file that the centre crop keeps.
        interpolation: how files are scaled, `"bilinear"` or `"bicubic"`.
        calibration: record of the images that thresholds are found on; budgets need one.
        batch_size: images in a forward. The policy and f_C read their many weights once for all of these; compiled
            encoders take them in parts that fit the caches of processors.

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
        self.num_glimpses = steps
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
        method: str = "geometric",
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
        path = RunFolder(Path(folder)).record("calibration")
        recognizer = cls(
            frozen(run.classifier, compile=compile),
            run.policy,
            class_names=run.class_names,
            image_size=run.config.data.image_size,
            crop_pct=run.config.data.crop_pct,
            interpolation=run.config.data.interpolation,
            calibration=load_record(path) if path.is_file() or budget is not None else None,
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
        method: str = "geometric",
    ) -> None:
        """Decides when to stop, from the next call on; all T steps if nothing is passed.

        Args:
            budget: multiply-adds per image, on average over images like those of the calibration.
            thresholds: T - 1 of them, see `agents.evaluation.stopping.ExitRule`.
            num_glimpses: always so many steps, 1 to T.
            criterion: `"confidence"` or `"entropy"`.
            method: how thresholds are found for a budget, one of `agents.evaluation.budgets.METHODS`.

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
        last = self.num_glimpses
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
        if len(thresholds) != last - 1:
            raise ValueError(f"{len(thresholds)} thresholds for {last} steps; pass {last - 1}")
        self.rule = ExitRule(criterion, tuple(float(threshold) for threshold in thresholds))

    def predict_files(self, paths: Sequence[Path]) -> Recognition:
        """Recognises image files, each brought to the size of the training images.

        Args:
            paths: one or more.

        Returns:
            See `predict`.

        Raises:
            UnreadableImageError: if a file can't be decoded.
            ValueError: if there is no file, or the size of the training images is not known.
        """
        if not paths:
            raise ValueError("paths is empty; pass a file or more")
        first = self.decode(paths[0])
        lot = max(self.batch_size, _BYTES_AT_ONCE // first.nbytes)
        parts = [
            self.predict(np.stack([self.decode(path) for path in paths[start : start + lot]]))
            for start in range(0, len(paths), lot)
        ]
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
        steps = episodes.steps.cpu().numpy()
        return Recognition(
            label=episodes.labels.cpu().numpy(),
            confidence=episodes.confidences.cpu().numpy(),
            step=steps,
            locations=episodes.locations.cpu().numpy(),
            multiply_adds=self.cumulative_multiply_adds[steps - 1],
        )


class _Episodes:
    """N episodes, each at a step of its own."""

    def __init__(self, recognizer: Recognizer, images: Tensor) -> None:
        self.images = images
        self._of = recognizer
        self._first = recognizer.classifier.first_location(len(images), torch.Generator().manual_seed(0))
        count, last, device = len(images), recognizer.num_glimpses, images.device
        self.steps = torch.zeros(count, dtype=torch.int64, device=device)
        self.labels = torch.zeros(count, dtype=torch.int64, device=device)
        self.confidences = torch.zeros(count, device=device)
        self.locations = torch.full((count, last - 1, 2), torch.nan, device=device)
        self.going_on = torch.zeros(0, dtype=torch.int64, device=device)  # indices, the longest waiting first
        self._hidden = torch.zeros(count, recognizer.classifier.hidden_size, device=device)
        self._features = torch.zeros(0, device=device)  # (W, C, h, w) of those that go on, in their order
        self._glances = torch.zeros(0, device=device)  # likewise of their glances, if the policy reads them
        self._keeps_glances = "glance" in recognizer.policy.observes
        self._states: Tensor | None = None  # (N, ...) of the policy, once it has one; zero is the first
        limits = [*recognizer.rule.thresholds, -np.inf]
        self._limits = torch.tensor(limits, dtype=torch.float64, device=device)

    def glance(self, start: int, stop: int) -> None:
        """The first step of some neighbouring episodes."""
        images = self.images[start:stop]  # not copied
        indices = torch.arange(start, start + len(images), device=images.device)
        glimpse = self._of.classifier.glance(images, None if self._first is None else self._first[indices])
        self._settle(indices, glimpse, glimpse.features)

    def focus(self) -> None:
        """The next step of those that have waited longest, as many as a batch holds."""
        size = self._of.batch_size
        indices, self.going_on = self.going_on[:size], self.going_on[size:]
        features, self._features = self._features[:size], self._features[size:]
        glances, self._glances = self._glances[:size], self._glances[size:]
        glimpse = Glimpse(features, self._hidden[indices], features[:0], features[:0])
        location = self._locate(indices, glimpse, glances)
        self._settle(indices, self._of.classifier.look(self.images, location, glimpse.hidden, indices), glances)

    def _locate(self, indices: Tensor, glimpse: Glimpse, glances: Tensor) -> Tensor:
        """Where these look next; decided this late, so that the policy sees full batches too."""
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
        """Notes what was seen; the confident ones leave and the others wait for their next look."""
        found = read_out(glimpse.logits)
        self.labels[indices], self.confidences[indices] = found.prediction, found.confidence
        self.steps[indices] += 1
        score = -found.entropy if self._of.rule.criterion == "entropy" else found.confidence
        stays = score < self._limits[self.steps[indices] - 1]
        remaining = indices[stays]
        self._hidden[remaining] = glimpse.hidden[stays]
        self._features = _joined(self._features, glimpse.features[stays])
        if self._keeps_glances:
            self._glances = _joined(self._glances, glances[stays])
        self.going_on = torch.cat([self.going_on, remaining])


def _joined(waiting: Tensor, new: Tensor) -> Tensor:
    return torch.cat([waiting, new]) if len(waiting) else new


def as_batch(images: Images, least_side: int = 1) -> Tensor:
    """Brings images into one tensor.

    Args:
        images: see `Images`.
        least_side: pixels that each side must have.

    Returns:
        (N, 3, H, W) uint8 pixels or normalised float32.

    Raises:
        ValueError: if there is no image, or they have several sizes, another type, or hold NaN.
    """
    if isinstance(images, Tensor):
        batch = images
    elif isinstance(images, np.ndarray):
        batch = torch.from_numpy(images).movedim(-1, 1) if images.ndim == 4 else torch.from_numpy(images)
    else:
        batch = _stacked(images)
    if len(batch) == 0:
        raise ValueError("images is an empty batch; pass at least one image")
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise ValueError(
            f"images have shape {tuple(images.shape) if isinstance(images, np.ndarray) else tuple(batch.shape)}; pass "
            "(N, 3, H, W) tensors or (N, H, W, 3) arrays"
        )
    if batch.dtype not in (torch.uint8, torch.float32):
        raise ValueError(f"images are {str(batch.dtype).removeprefix('torch.')}; pass uint8, or normalised float32")
    if min(batch.shape[2:]) < least_side:
        raise ValueError(
            f"images are {batch.shape[2]}x{batch.shape[3]}, smaller than the {least_side}x{least_side} patches or "
            "glance; pass larger ones"
        )
    if batch.is_floating_point() and not torch.isfinite(batch).all():
        raise ValueError("images hold NaN or infinity; pass finite pixels")
    return batch


def _stacked(images: Sequence[Any]) -> Tensor:
    singles = []
    for image in images:
        if isinstance(image, Image.Image):
            image = np.array(image.convert("RGB"))
        if isinstance(image, np.ndarray):
            image = torch.from_numpy(image).movedim(-1, 0) if image.ndim == 3 else torch.from_numpy(image)
        if not isinstance(image, Tensor):
            raise ValueError(f"images hold a {type(image).__name__}; pass tensors, arrays or PIL images")
        singles.append(image)
    sizes = sorted({tuple(image.shape) for image in singles})
    if len(sizes) > 1:
        raise ValueError(f"images have several shapes, {sizes[0]} and {sizes[1]}; pass those of one size per call")
    types = sorted({str(image.dtype).removeprefix("torch.") for image in singles})
    if len(types) > 1:
        raise ValueError(f"images have several types, {types[0]} and {types[1]}; pass those of one type per call")
    return torch.stack(singles) if singles else torch.zeros(0)
