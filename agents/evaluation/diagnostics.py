"""Does a policy look where the image asks it to? What an evaluation record says of its looks; see docs/diagnosing.md.

A collapsed policy still earns some reward, so that its learning curve alone does not give it away: it looks at the same
places in every image, at the border, or at one place of an image again and again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from agents.evaluation.record import EvaluationRecord
from classifiers.networks.geometry import top_left_px

BORDER = 0.02
"""A look is at a border if its row or its column, in [0, 1], is closer to 0 or to 1 than this."""

LEAST_SPREAD = 0.05
"""Below this spread at every step, looks hardly depend on the image."""

MOST_AT_BORDER = 0.9
"""Above this share, nearly all looks are at a border; of random ones, 0.08 are."""

LEAST_NEW_GROUND = 0.1
"""The looks of an episode are nearly the same if 1 - overlap is below this share of what it is for random looks."""

_RANDOM_PAIRS = 4096


@dataclass(frozen=True)
class Diagnostics:
    """What a record says of a policy's looks; the glance is no look of the policy's.

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

    Along an axis on which the patch is as long as the image all locations are the same, so that spread and border are
    those of the other axis. Records of a single image, or of patches as large as the image, show no collapse.

    Args:
        record: of a policy's episodes.
        exit_confidence: an episode ends after the first patch with a confidence above this
            (`EpisodeSpec.exit_confidence`); None if all have T steps. Only `looks` depends on it.

    Returns:
        See `Diagnostics`.
    """
    room = np.array(record.image_size) - record.patch_sizes[0]
    location = record.location[..., room > 0] if room.any() else record.location
    spread = tuple(location.std(axis=0, dtype=np.float64).mean(axis=1).tolist())
    border = float((np.minimum(location, 1.0 - location) < BORDER).any(axis=2).mean())
    overlap = _overlap(record.location, record)
    found: list[str] = []
    if room.any() and len(location) > 1:
        found = _findings(spread, border, overlap, record)
    explanation = f"The policy has collapsed: {'; '.join(found)}. docs/diagnosing.md says what to try."
    return Diagnostics(spread, border, overlap, _mean_looks(record, exit_confidence), explanation if found else "")


def _findings(spread: tuple[float, ...], border: float, overlap: float | None, record: EvaluationRecord) -> list[str]:
    """What is wrong, a phrase each."""
    found = []
    if max(spread) < LEAST_SPREAD:
        found.append(f"it looks at nearly the same places in all images (spread {max(spread):.3f}; random places 0.29)")
    if border > MOST_AT_BORDER:
        found.append(f"{border:.0%} of its looks are at a border of the image")
    if overlap is not None:
        places = np.random.default_rng(0).random((_RANDOM_PAIRS, 2, 2), dtype=np.float32)
        usual = _overlap(places, record)
        assert usual is not None  # of pairs
        if 1.0 - overlap < LEAST_NEW_GROUND * (1.0 - usual):
            found.append(
                f"the looks of an episode are nearly the same (their patches overlap by {overlap:.0%}; random ones by "
                f"{usual:.0%})"
            )
    return found


def _overlap(location: np.ndarray, record: EvaluationRecord) -> float | None:
    """Mean intersection over union of all pairs of patches of an episode; location is (N, L, 2)."""
    first, second = np.triu_indices(location.shape[1], k=1)
    if len(first) == 0:
        return None
    side = record.patch_sizes[0]
    flat = torch.from_numpy(np.ascontiguousarray(location)).flatten(0, 1)
    corners = top_left_px(flat, record.image_size, side).numpy().reshape(location.shape)
    common = (side - np.abs(corners[:, first] - corners[:, second])).clip(min=0).prod(axis=2)
    return float((common / (2 * side**2 - common)).mean())


def _mean_looks(record: EvaluationRecord, exit_confidence: float | None) -> float:
    looks = record.location.shape[1]
    if exit_confidence is None:
        return float(looks)
    ends = record.confidence[:, 1:] > exit_confidence
    return float(np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, looks).mean())
