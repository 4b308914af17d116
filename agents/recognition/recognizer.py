"""A recognizer that stops as soon as it is confident enough (Section 3.1, Inference)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from agents.evaluation.budgets import fit_exit_rule
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.rollout import cumulative_multiply_adds
from agents.evaluation.stopping import ExitRule, check_thresholds
from agents.policies.protocol import LocationPolicy
from agents.recognition.episodes import Episodes
from agents.recognition.images import Images, as_batch
from classifiers.data.clips.recordings import VIDEO_EXTENSIONS, Fit, read_clip
from classifiers.data.decoding import UnreadableImageError, decode_image
from classifiers.inference.frozen import FrozenClassifier

Thresholds = Sequence[float] | Sequence[Sequence[float]] | np.ndarray
"""(T - 1, K), or (T - 1,) where patches have one size."""

_BYTES_AT_ONCE = 1 << 29  # of decoded files; the last batches of each lot are not full


class Recognition(NamedTuple):
    """Predictions for N images.

    Attributes:
        label: (N,) int64 classes.
        confidence: (N,) float32 probabilities of these classes.
        step: (N,) int64 steps taken, the glance included: 1 to T.
        locations: (N, T - 1, 2) float32 locations of the patches, (row, col) in [0, 1]; NaN after the last one.
        multiply_adds: (N,) int64 cost.
        patch_sizes: (N, T - 1) int64 sides of the patches in pixels; 0 after the last one.
        top_labels: (N, k) int64 most probable classes, `label` first.
        top_probabilities: (N, k) float32 probabilities of these classes.
    """

    label: np.ndarray
    confidence: np.ndarray
    step: np.ndarray
    locations: np.ndarray
    multiply_adds: np.ndarray
    patch_sizes: np.ndarray
    top_labels: np.ndarray
    top_probabilities: np.ndarray


class Recognizer:
    """Looks at images, or clips, until it is confident enough, within a budget.

    What applies to images applies to clips too, if the classifier takes clips; their files are videos or folders of
    frames. Finished images leave the batch and the others are regrouped by the size of their next patch, so that the
    encoders run on full batches however many images exit. `agents.load_recognizer` makes one of a run.

    Args:
        classifier: the frozen networks.
        policy: where to look next.
        class_names: names of the K classes, by label.
        image_size: (H, W) in pixels of the training images; other sizes work if the content has a similar scale.
        crop_pct: fraction of each side of an image file that the center crop keeps.
        interpolation: how image files are resized, `"bilinear"` or `"bicubic"`.
        calibration: record of the images that thresholds are fitted on; needed for budgets.
        batch_size: images in a forward pass. Large batches read the many weights of policy and f_C once for all images;
            compiled encoders split them into micro-batches that fit into the caches of CPUs.

    Raises:
        ValueError: if `batch_size` is below 1, or the calibration has another number of steps or other patch sizes.
    """

    def __init__(
        self,
        classifier: FrozenClassifier,
        policy: LocationPolicy,
        *,
        class_names: tuple[str, ...] = (),
        image_size: tuple[int, int] | None = None,
        crop_pct: float = 1.0,
        interpolation: str = "bilinear",
        calibration: EvaluationRecord | None = None,
        batch_size: int = 128,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; pass 1 or more")
        if calibration is not None:
            found = calibration.num_steps, calibration.patch_sizes
            expected = classifier.spec.num_glimpses, classifier.spec.patch_sizes
            if found != expected:
                raise ValueError(
                    f"the calibration is of {found[0]} steps and patch sizes {list(found[1])}, the classifier of "
                    f"{expected[0]} and {list(expected[1])}; run `gfnet evaluate` on the run again"
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

    def use(
        self,
        *,
        budget: float | None = None,
        thresholds: Thresholds | None = None,
        num_glimpses: int | None = None,
        criterion: str = "confidence",
        method: str = "coordinate_ascent",
    ) -> None:
        """Sets when to stop, and the sizes of the patches until then, from the next call on.

        Without arguments, it stops after all T steps, and all patches are of the largest size.

        Args:
            budget: multiply-adds per image, on average over images like those of the calibration.
            thresholds: T - 1 rows of one for each patch size, or T - 1 of them where there is one size; see
                `agents.evaluation.stopping.next_sizes`.
            num_glimpses: always take this many steps, 1 to T, with patches of the largest size.
            criterion: `"confidence"` or `"entropy"`.
            method: how thresholds are fitted to a budget, one of `agents.evaluation.budgets.METHODS`.

        Raises:
            FileNotFoundError: if a budget is passed and there is no calibration.
            ValueError: if more than one is passed, or something is out of range.
        """
        if sum(value is not None for value in (budget, thresholds, num_glimpses)) > 1:
            raise ValueError("pass one of budget, thresholds and num_glimpses, not several")
        if criterion not in ("confidence", "entropy"):
            raise ValueError(f"criterion={criterion!r}; pass 'confidence' or 'entropy'")
        last, num_sizes = self.classifier.spec.num_glimpses, len(self.classifier.spec.patch_sizes)
        if budget is not None:
            if self.calibration is None:
                raise FileNotFoundError("there is no calibration for a budget; run `gfnet evaluate` on the run first")
            self.rule = fit_exit_rule(self.calibration, budget, criterion=criterion, method=method)
            return
        if thresholds is None:
            steps = last if num_glimpses is None else num_glimpses
            if not 1 <= steps <= last:
                raise ValueError(f"num_glimpses={steps}; pass 1 to {last}")
            thresholds = np.full((last - 1, num_sizes), -np.inf)
            thresholds[: steps - 1, -1] = np.inf
        rule = ExitRule(criterion, np.asarray(thresholds))
        check_thresholds(rule.thresholds, last, num_sizes)
        self.rule = rule

    @property
    def num_frames(self) -> int | None:
        """Frames of a clip that it takes; None if it takes images."""
        return self.classifier.spec.num_frames

    def predict_files(
        self,
        paths: Path | str | Sequence[Path | str],
        on_unreadable: Callable[[Path, UnreadableImageError], object] | None = None,
        on_short: Callable[[Path, int], object] | None = None,
        *,
        top_k: int = 1,
    ) -> Recognition:
        """Recognizes image files, each brought to the size of the training images.

        Args:
            paths: a file, or several.
            on_unreadable: called with each file that can't be decoded, which the results then lack; None raises.
            on_short: called with each clip of which frames are repeated, because it has too few, and how many it has.
            top_k: see `predict`.

        Returns:
            See `predict`.

        Raises:
            UnreadableImageError: if a file can't be decoded and `on_unreadable` is None, or if none can.
            ValueError: if there is no file, or the size of the training images is not known.
        """
        files = [Path(path) for path in ([paths] if isinstance(paths, Path | str) else paths)]
        if not files:
            raise ValueError("paths is empty; pass a file or more")
        height, width = self.image_size or (1, 1)
        lot = max(self.batch_size, _BYTES_AT_ONCE // ((self.num_frames or 1) * 3 * height * width))
        parts = []
        for start in range(0, len(files), lot):
            images = []
            for path in files[start : start + lot]:
                try:
                    images.append(self.decode(path, on_short))
                except UnreadableImageError as error:
                    if on_unreadable is None:
                        raise
                    on_unreadable(path, error)
            if images:
                parts.append(self.predict(np.stack(images), top_k=top_k))
        if not parts:
            raise UnreadableImageError(f"none of the {len(files)} files can be decoded; pass image files")
        return Recognition(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def decode(self, path: Path | str, on_short: Callable[[Path, int], object] | None = None) -> np.ndarray:
        """Reads an image file as those that the networks were trained on.

        Args:
            path: the file.
            on_short: see `predict_files`.

        Returns:
            (H, W, 3) uint8; a clip, (F, H, W, 3).

        Raises:
            UnreadableImageError: if it can't be decoded.
            ValueError: if the size of the training images is not known.
        """
        path = Path(path)
        if self.image_size is None:
            raise ValueError("image_size is not known; pass it to the recognizer, or images to `predict`")
        if self.num_frames is not None:
            clip = read_clip(path, self.num_frames, Fit(self.image_size, self.crop_pct, self.interpolation))
            if on_short is not None and clip.length < self.num_frames:
                on_short(path, clip.length)
            return clip.frames
        if path.suffix.lower() in VIDEO_EXTENSIONS:
            raise UnreadableImageError(f"{path} is a video, the networks take images; pass image files")
        return decode_image(path, self.image_size, self.crop_pct, self.interpolation)

    @torch.inference_mode()
    def predict(self, images: Images, *, top_k: int = 1) -> Recognition:
        """Recognizes images.

        Args:
            images: one or more, all of one size, each side at least the patch's and the glance's; see
                `agents.recognition.images.Images`.
            top_k: how many of the most probable classes to return, 1 or more; all K where there are fewer.

        Returns:
            The predictions and what they cost.

        Raises:
            ValueError: if there is no image, or they have several sizes, another type, or hold NaN; or if `top_k` is
                below 1.
        """
        if top_k < 1:
            raise ValueError(f"top_k={top_k}; pass 1 or more")
        top_k = min(top_k, self.classifier.num_classes)
        batch = as_batch(images, self.classifier.spec.largest_side, self.num_frames)
        episodes = Episodes(self.classifier, self.policy, self.rule, batch.to(self.classifier.device), top_k)
        first_new = 0
        while first_new < len(batch) or episodes.most_waiting:
            if first_new < len(batch) and episodes.most_waiting < self.batch_size:
                episodes.glance(first_new, first_new + self.batch_size)
                first_new += self.batch_size
            else:
                episodes.focus(self.batch_size)
        if not torch.isfinite(episodes.confidences).all():
            raise ValueError("the networks' predictions are NaN for some images; check the weights and the pixels")
        return Recognition(
            label=episodes.labels.cpu().numpy(),
            confidence=episodes.confidences.cpu().numpy(),
            step=episodes.steps.cpu().numpy(),
            locations=episodes.locations.cpu().numpy(),
            multiply_adds=self.cumulative_multiply_adds[episodes.nodes.cpu().numpy()],
            patch_sizes=episodes.sides.cpu().numpy(),
            top_labels=episodes.top_labels.cpu().numpy(),
            top_probabilities=episodes.top_probabilities.cpu().numpy(),
        )
