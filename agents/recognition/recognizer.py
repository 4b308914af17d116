"""A recognizer that stops as soon as it is confident enough (Section 3.1, Inference)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.evaluation.budgets import fit_exit_rule
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.rollout import cumulative_multiply_adds
from agents.evaluation.stopping import ExitRule, check_thresholds
from agents.policies.protocol import LocationPolicy
from agents.recognition.episodes import Episodes
from agents.recognition.images import Images, as_batch
from agents.recognition.pictures import Downloads, Picture, is_address, is_one, picture_name, read_picture
from classifiers.data.clips.recordings import Fit, read_clip
from classifiers.data.decoding import UnreadableImageError
from classifiers.data.loading import map_ahead
from classifiers.inference.frozen import FrozenClassifier

Thresholds = Sequence[float] | Sequence[Sequence[float]] | np.ndarray
"""(T - 1, K), or (T - 1,) where patches have one size."""

_BATCHES_AHEAD = 2  # that threads have read when the networks take the next one
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

    @classmethod
    def joined(cls, parts: Sequence[Recognition]) -> Recognition:
        """The predictions of several calls, one after another."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


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
        downloads: limits for pictures that are read from addresses; None for the defaults.

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
        downloads: Downloads | None = None,
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
        self.downloads = downloads or Downloads()
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
        on_unreadable: Callable[[Path | str, UnreadableImageError], object] | None = None,
        on_short: Callable[[Path | str, int], object] | None = None,
        *,
        top_k: int = 1,
        num_workers: int | None = None,
    ) -> Recognition:
        """Recognizes image files, each brought to the size of the training images.

        Args:
            paths: a file or an http or https address, or several.
            on_unreadable: called with each file that can't be decoded, which the results then lack; None raises.
            on_short: called with each clip of which frames are repeated, because it has too few, and how many it has.
            top_k: see `predict`.
            num_workers: see `stream`.

        Returns:
            See `predict`.

        Raises:
            UnreadableImageError: if a file can't be decoded and `on_unreadable` is None, or if none can.
            ValueError: if there is no file, or the size of the training images is not known.
        """
        several: Sequence[Path | str] = [paths] if isinstance(paths, Path | str) else paths
        files = [path if is_address(path) else Path(path) for path in several]
        if not files:
            raise ValueError("paths is empty; pass a file or more")
        height, width = self.image_size or (1, 1)
        lot = max(self.batch_size, _BYTES_AT_ONCE // ((self.num_frames or 1) * 3 * height * width))
        found = [part for _, part in self._lots(files, lot, on_unreadable, on_short, top_k, num_workers)]
        if not found:
            raise UnreadableImageError(f"none of the {len(files)} files can be decoded; pass image files")
        return Recognition.joined(found)

    def stream(
        self,
        pictures: Iterable[Picture],
        on_unreadable: Callable[[Any, UnreadableImageError], object] | None = None,
        on_short: Callable[[Any, int], object] | None = None,
        *,
        top_k: int = 1,
        num_workers: int | None = None,
    ) -> Iterator[tuple[list[Picture], Recognition]]:
        """Recognizes any number of pictures, batch by batch, each brought to the size of the training images.

        Args:
            pictures: see `agents.recognition.pictures.Picture`; for clips, paths of videos or folders of frames.
            on_unreadable: called with each one that can't be read, which the results then lack; None raises.
            on_short: see `predict_files`.
            top_k: see `predict`.
            num_workers: threads that read ahead; None takes one for each core, 0 reads in this thread.

        Yields:
            At most `batch_size` pictures in order, and what was found in them.

        Raises:
            UnreadableImageError: if one can't be read and `on_unreadable` is None.
            ValueError: if the size of the training images is not known.
        """
        yield from self._lots(pictures, self.batch_size, on_unreadable, on_short, top_k, num_workers)

    def __call__(
        self, pictures: Picture | Iterable[Picture], *, top_k: int = 5, num_workers: int | None = None
    ) -> list[Any]:
        """Names the most probable classes, in the form of an image-classification pipeline of transformers.

        Args:
            pictures: one, or several, of any sizes; see `agents.recognition.pictures.Picture`.
            top_k: how many classes, 1 or more; all K where there are fewer.
            num_workers: see `stream`.

        Returns:
            For one picture a list of `{"label": NAME, "score": PROBABILITY}`, most probable first; for several, a list
            of such lists.

        Raises:
            UnreadableImageError: if one can't be read.
            ValueError: if `top_k` is below 1, or the size of the training images is not known.
        """
        several: Any = [pictures] if is_one(pictures) else pictures
        records = [
            [self._record(*pair) for pair in zip(labels, scores, strict=True)]
            for _, found in self.stream(several, top_k=top_k, num_workers=num_workers)
            for labels, scores in zip(found.top_labels.tolist(), found.top_probabilities.tolist(), strict=True)
        ]
        return records[0] if is_one(pictures) else records

    def _record(self, label: int, score: float) -> dict[str, Any]:
        return {"label": self.class_names[label] if self.class_names else str(label), "score": score}

    def _lots(
        self,
        pictures: Iterable[Any],
        lot: int,
        on_unreadable: Callable[[Any, UnreadableImageError], object] | None,
        on_short: Callable[[Any, int], object] | None,
        top_k: int,
        num_workers: int | None,
    ) -> Iterator[tuple[list[Any], Recognition]]:
        """At most `lot` of the pictures that can be read at a time, and what was found in them."""
        ahead = min(lot, _BATCHES_AHEAD * self.batch_size)
        kept: list[Any] = []
        images: list[np.ndarray] = []
        with closing(map_ahead(self._attempt, pictures, num_workers, ahead)) as attempts:
            for picture, image, short in attempts:
                if isinstance(image, UnreadableImageError):
                    if on_unreadable is None:
                        raise image
                    on_unreadable(picture, image)
                    continue
                if on_short is not None and short is not None:
                    on_short(picture, short)
                kept.append(picture)
                images.append(image)
                if len(images) == lot:
                    yield kept, self.predict(np.stack(images), top_k=top_k)
                    kept, images = [], []
        if images:
            yield kept, self.predict(np.stack(images), top_k=top_k)

    def _attempt(self, picture: Any) -> tuple[Any, np.ndarray | UnreadableImageError, int | None]:
        """A picture, what was read or why it can't be, and how many frames a clip has that is too short."""
        short: list[int] = []
        try:
            image = self.decode(picture, lambda _, length: short.append(length))
        except UnreadableImageError as error:
            return picture, error, None
        return picture, image, short[0] if short else None

    def decode(self, picture: Picture, on_short: Callable[[Any, int], object] | None = None) -> np.ndarray:
        """Reads a picture as those that the networks were trained on.

        Args:
            picture: see `agents.recognition.pictures.Picture`; for clips, the path of a video or a folder of frames.
            on_short: see `predict_files`.

        Returns:
            (H, W, 3) uint8; a clip, (F, H, W, 3).

        Raises:
            UnreadableImageError: if it can't be read.
            ValueError: if the size of the training images is not known.
        """
        if self.image_size is None:
            raise ValueError("image_size is not known; pass it to the recognizer, or images to `predict`")
        if self.num_frames is None:
            return read_picture(picture, self.image_size, self.crop_pct, self.interpolation, self.downloads)
        if not isinstance(picture, str | Path) or is_address(picture):
            raise UnreadableImageError(f"{picture_name(picture)} is no clip; pass the path of a video or of its frames")
        clip = read_clip(Path(picture), self.num_frames, Fit(self.image_size, self.crop_pct, self.interpolation))
        if on_short is not None and clip.length < self.num_frames:
            on_short(Path(picture), clip.length)
        return clip.frames

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
