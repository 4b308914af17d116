"""The architecture of a classifier, as data."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral

from classifiers.networks.encoders import check_encoder, clip_frames
from classifiers.networks.geometry import RESIZE_MODES
from classifiers.networks.heads import HEADS
from classifiers.networks.tracing import STRIDES

GLANCE_LOGITS = ("head", "encoder")
"""What may make the first prediction."""

FIRST_LOOKS = ("glance", "centre", "random")
"""What the first step may look at."""

ADJUSTABLE = ("patch_size", "patch_sizes", "glance_size", "num_glimpses", "feature_stride")
"""Fields of `ClassifierSpec` that trained networks can have otherwise than they were trained with."""

_DEFAULT_SIDE = 96
LEAST_SIDE, MOST_SIDE = 8, 16_384
"""Smallest and largest side of a glance or a patch, in pixels."""


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec:
    """The architecture of a classifier, except for its number of classes.

    Attributes:
        encoder: a name that `classifiers.networks.encoders.build_encoder` knows.
        head: a key of `classifiers.networks.heads.HEADS`.
        patch_size: side P of the patches, in pixels (the paper's H' = W'); of several sizes, the largest.
        patch_sizes: sides that a patch may have, ascending (Section 4.2). A single size may be given as `patch_size`
            instead; without either, it is 96.
        glance_size: side of the glance, in pixels; None takes `patch_size`, as the paper does except in Table 3.
            Needed with several patch sizes.
        num_glimpses: longest sequence T, the glance included.
        hidden_size: units of the `gru` head; the others ignore it.
        resize_mode: how the image is resized for the glance, one of `classifiers.networks.geometry.RESIZE_MODES`.
        glance_logits: what makes the prediction after the glance in evaluation: `"head"`, or `"encoder"`, f_G's own
            classifier (the published RegNets; a `cascade` always does so).
        first_look: what the first step looks at: `"glance"`, the downsampled image, or, in Table 5's rows without the
            Glance Step, a full-resolution patch of the glance's size: `"centre"` at the centre, `"random"` anywhere.
        shares_encoder: whether f_G and f_L are one network (Table 5, without the global encoder).
        feature_stride: pixels between neighbouring positions of the feature maps that the policy reads, one of
            `classifiers.networks.tracing.STRIDES`. None takes the encoder's last maps, as the paper does; small
            objects need finer ones, which an earlier layer has computed anyway.
    """

    encoder: str
    head: str = "gru"
    patch_size: int = None  # type: ignore[assignment]  # set by `__post_init__`
    patch_sizes: tuple[int, ...] = None  # type: ignore[assignment]  # likewise
    num_glimpses: int = 5
    hidden_size: int = 1024
    resize_mode: str = "bicubic"
    glance_logits: str = "head"
    first_look: str = "glance"
    shares_encoder: bool = False
    glance_size: int | None = None
    feature_stride: int | None = None

    @property
    def num_frames(self) -> int | None:
        """Frames of a clip that the encoder takes; None if it takes images."""
        return clip_frames(self.encoder)

    @property
    def glance_side(self) -> int:
        """Side of the glance, in pixels."""
        return self.patch_size if self.glance_size is None else self.glance_size

    @property
    def largest_side(self) -> int:
        """The larger of the sides of glance and patch: the smallest side of an image, in pixels."""
        return max(self.glance_side, self.patch_size)

    def __post_init__(self) -> None:
        check_encoder(self.encoder)
        self._settle_sizes()
        choices = {
            "head": tuple(HEADS),
            "resize_mode": RESIZE_MODES,
            "glance_logits": GLANCE_LOGITS,
            "first_look": FIRST_LOOKS,
        }
        for field, known in choices.items():
            value = getattr(self, field)
            if value not in known:
                near = difflib.get_close_matches(str(value), known, 1)
                raise ValueError(
                    f"{field}={value!r} is unknown; pass {'perhaps ' + near[0] + ', ' if near else ''}"
                    f"one of {', '.join(known)}"
                )
        if self.feature_stride not in (None, *STRIDES):
            raise ValueError(
                f"feature_stride={self.feature_stride}; pass one of {', '.join(map(str, STRIDES))}, or None for the "
                "encoder's last maps"
            )
        for field, least in (("num_glimpses", 2), ("hidden_size", 1)):
            if getattr(self, field) < least:
                raise ValueError(f"{field}={getattr(self, field)} is too small; pass {least} or more")
        if self.patch_sizes[0] < LEAST_SIDE:
            raise ValueError(f"patch_size={self.patch_sizes[0]} is too small; pass {LEAST_SIDE} or more")
        if self.largest_side > MOST_SIDE:
            raise ValueError(f"a patch or glance of {self.largest_side} pixels is too large; pass at most {MOST_SIDE}")
        if self.glance_size is not None and self.glance_size < LEAST_SIDE:
            raise ValueError(f"glance_size={self.glance_size} is too small; pass {LEAST_SIDE} or more, or None")

    def _settle_sizes(self) -> None:
        """Makes `patch_size` and `patch_sizes` agree, whichever was given."""
        one: int | None = self.patch_size
        several: Sequence[int] | None = self.patch_sizes
        sizes = (_DEFAULT_SIDE if one is None else one,) if several is None else tuple(several)
        if not sizes or not all(isinstance(side, Integral) for side in sizes):
            raise ValueError(f"patch_sizes={list(sizes)}; pass one or more whole numbers of pixels")
        if any(small >= large for small, large in pairwise(sizes)):
            raise ValueError(f"patch_sizes={list(sizes)} do not ascend; pass each size once, the smallest first")
        if one not in (None, sizes[-1]):
            raise ValueError(
                f"patch_size={one} and patch_sizes={list(sizes)} were given; pass one of them: patch_size "
                "if all patches have one size"
            )
        if len(sizes) > 1 and self.glance_size is None:
            raise ValueError(
                f"patch_sizes={list(sizes)} without glance_size; pass glance_size, for example {sizes[0]}: the glance "
                "has one size"
            )
        object.__setattr__(self, "patch_sizes", sizes)
        object.__setattr__(self, "patch_size", sizes[-1])
