"""Does a policy look where the image asks it to? Statistics of evaluation records; see docs/diagnosing.md.

A collapsed policy still earns some reward, so that its learning curve alone does not give it away: it looks at the same
places in every image, at the border, or at one place of an image again and again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from agents.evaluation.record import EvaluationRecord
from classifiers.networks.geometry import top_left_px
from classifiers.networks.size_histories import mean_by_step, node_of, size_histories

BORDER = 0.02
"""A look is at a border if its row or its column, in [0, 1], is closer to 0 or to 1 than this."""

MIN_SPREAD = 0.05
"""Below this spread at every step, looks hardly depend on the image."""

MAX_BORDER_SHARE = 0.9
"""Above this share, nearly all looks are at a border; of random ones, 0.08 are."""

MIN_NEW_GROUND = 0.1
"""The looks of an episode are nearly the same if 1 - overlap is below this share of what it is for random looks."""

_RANDOM_EPISODES = 1024


@dataclass(frozen=True)
class Diagnostics:
    """Statistics of where a policy looks; the glance is not counted.

    With several patch sizes, these are the means over the size histories of each step.

    Attributes:
        spread: T - 1 numbers: at each step, the standard deviation over images of the location in [0, 1], averaged over
            rows and columns. 0 if all images are looked at in the same place, 0.29 for random places.
        border: share of the looks that are within `BORDER` of an edge.
        overlap: mean intersection over union of the patches of two looks of an episode, over all pairs; None for a
            single look.
        looks: mean number of looks of an episode, up to the one after which it ends.
        explanation: what is wrong in words; empty if nothing is.
    """

    spread: tuple[float, ...]
    border: float
    overlap: float | None
    looks: float
    explanation: str

    @property
    def collapsed(self) -> bool:
        """Whether the looks hardly depend on the image, are nearly all at a border, or are nearly all the same."""
        return bool(self.explanation)

    def figures(self) -> dict[str, float]:
        """Spread by step, border and overlap by the names that they have in a run's log."""
        spreads = {f"spread_t{step}": value for step, value in enumerate(self.spread, 2)}
        return {**spreads, "border": self.border, **({} if self.overlap is None else {"overlap": self.overlap})}


def diagnose(record: EvaluationRecord, exit_confidence: float | None = None) -> Diagnostics:
    """Examines the looks of a policy.

    Along an axis on which a patch is as long as the image all its locations are the same, so that spread and border are
    those of the other axis. Records of a single image, or of patches as large as the image, show no collapse.

    Args:
        record: of a policy's episodes.
        exit_confidence: an episode ends after the first patch with a confidence above this
            (`EpisodeSpec.exit_confidence`); None if all have T steps. Only `looks` depends on it.

    Returns:
        The figures, and what is wrong in words.
    """
    is_free: np.ndarray = np.array(record.image_size) > _sides(record)[:, None]  # (nodes - 1, 2)
    has_choice = bool(is_free.any())
    is_free |= not has_choice
    spread = _by_step(record, (record.location.std(axis=0, dtype=np.float64) * is_free).sum(axis=1))
    spread /= _by_step(record, np.count_nonzero(is_free, axis=1))
    at_edge = (np.minimum(record.location, 1.0 - record.location) < BORDER) & is_free
    near = _by_step(record, at_edge.any(axis=2).mean(axis=0))
    border = float(near.sum() / _by_step(record, np.any(is_free, axis=1)).sum())
    overlap = _overlap(record.location, record)
    found: list[str] = []
    if has_choice and len(record.location) > 1:
        found = _findings(spread.max(), border, overlap, record)
    explanation = f"The policy has collapsed: {'; '.join(found)}. docs/diagnosing.md says what to try."
    looks = _mean_looks(record, exit_confidence)
    return Diagnostics(tuple(spread.tolist()), border, overlap, looks, explanation if found else "")


def _looks(record: EvaluationRecord) -> list[tuple[int, ...]]:
    """The size histories that end in a look, in the order of their nodes."""
    return size_histories(len(record.patch_sizes), record.num_steps)[1:]


def _by_step(record: EvaluationRecord, values: np.ndarray) -> np.ndarray:
    """(nodes - 1,), a number for each look, to (T - 1,)."""
    return mean_by_step(np.concatenate([[0.0], values]), len(record.patch_sizes))[1:]


def _findings(spread: float, border: float, overlap: float | None, record: EvaluationRecord) -> list[str]:
    """A phrase for each thing that is wrong."""
    found = []
    if spread < MIN_SPREAD:
        found.append(f"it looks at nearly the same places in all images (spread {spread:.3f}; random places 0.29)")
    if border > MAX_BORDER_SHARE:
        found.append(f"{border:.0%} of its looks are at a border of the image")
    if overlap is not None:
        shape = (_RANDOM_EPISODES, *record.location.shape[1:])
        places = np.random.default_rng(0).random(shape, dtype=np.float32)
        usual = _overlap(places, record)
        assert usual is not None  # of pairs
        if 1.0 - overlap < MIN_NEW_GROUND * (1.0 - usual):
            found.append(
                f"the looks of an episode are nearly the same (their patches overlap by {overlap:.0%}; random ones by "
                f"{usual:.0%})"
            )
    return found


def _overlap(location: np.ndarray, record: EvaluationRecord) -> float | None:
    """Mean intersection over union of all pairs of patches of an episode; location is (N, nodes - 1, 2)."""
    looks, num_sizes = _looks(record), len(record.patch_sizes)
    pairs = [(history[:earlier], history) for history in looks for earlier in range(1, len(history))]
    if not pairs:
        return None
    start, end = _corners(location, record)
    first, second = (
        np.array([node_of(history, num_sizes) for history in side]) - 1 for side in zip(*pairs, strict=True)
    )
    common = np.minimum(end[:, first], end[:, second]) - np.maximum(start[:, first], start[:, second])
    common = common.clip(min=0).prod(axis=2)
    area = (end - start).prod(axis=2)
    shares = (common / (area[:, first] + area[:, second] - common)).mean(axis=0)
    chances = [float(num_sizes) ** -len(history) for _, history in pairs]
    return float(np.average(shares, weights=chances))


def _sides(record: EvaluationRecord) -> np.ndarray:
    """(nodes - 1,) sides of the last patches."""
    return np.array([record.patch_sizes[history[-1]] for history in _looks(record)])


def _corners(location: np.ndarray, record: EvaluationRecord) -> tuple[np.ndarray, np.ndarray]:
    """Of the patches at (N, nodes - 1, 2): top-left pixels, and the first pixels beyond their bottom right."""
    places = torch.from_numpy(np.ascontiguousarray(location)).unbind(dim=1)
    starts = [
        top_left_px(place, record.image_size, int(side)) for place, side in zip(places, _sides(record), strict=True)
    ]
    corners: np.ndarray = torch.stack(starts, dim=1).numpy()
    return corners, corners + _sides(record)[:, None]


def _mean_looks(record: EvaluationRecord, exit_confidence: float | None) -> float:
    goes_on = np.ones(record.confidence.shape, bool)
    if exit_confidence is not None:
        for node, history in enumerate(_looks(record), start=1):
            before = goes_on[:, node_of(history[:-1], len(record.patch_sizes))]
            goes_on[:, node] = before & (record.confidence[:, node] <= exit_confidence)
    return float(mean_by_step(goes_on.mean(axis=0), len(record.patch_sizes))[:-1].sum())
