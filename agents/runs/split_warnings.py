"""What the numbers of images in the splits make doubtful, before anything trains."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

_MOST_UNEQUAL = 10  # images of the largest class to those of the smallest
_ENOUGH_TO_CALIBRATE = 200  # images that thresholds are found on
_ENOUGH_OF_A_CLASS = 5
_NAMED = 10  # classes in a sentence


def split_warnings(
    labels: dict[str, Tensor], names: Sequence[str], calibration: str, *, is_weighted: bool
) -> list[str]:
    """Says which splits have too few images, or too few of some classes.

    Args:
        labels: (L,) labels of each split that is known.
        names: of the K classes.
        calibration: the split that thresholds are found on.
        is_weighted: whether the losses are weighted by class.

    Returns:
        The sentences; none if nothing is doubtful.
    """
    warnings = []
    for split, found in labels.items():
        counts = found.bincount(minlength=len(names)).tolist()
        if split == "train" and not is_weighted and max(counts) > _MOST_UNEQUAL * min(counts):
            most, least = (counts.index(end(counts)) for end in (max, min))
            warnings.append(
                f"train holds {counts[most]} images of {names[most]!r} and {counts[least]} of {names[least]!r}; "
                "class_weight=balanced makes all classes count alike"
            )
        if split == calibration == "val" and len(found) < _ENOUGH_TO_CALIBRATE:
            warnings.append(
                f"val holds {len(found)} images; thresholds found on fewer than {_ENOUGH_TO_CALIBRATE} overfit them: "
                "expect less accuracy, or more multiply-adds, on other images"
            )
        few = [f"{name!r} ({count})" for name, count in zip(names, counts, strict=True) if count < _ENOUGH_OF_A_CLASS]
        if few:
            more = "" if len(few) <= _NAMED else f" and {len(few) - _NAMED} more"
            warnings.append(
                f"{split} holds fewer than {_ENOUGH_OF_A_CLASS} images of {', '.join(few[:_NAMED])}{more}; add some, "
                "or take these classes' accuracy for a guess"
            )
    return warnings
