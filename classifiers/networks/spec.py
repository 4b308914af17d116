"""The architecture of a classifier, as data."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from classifiers.networks.encoders import check_encoder, clip_frames
from classifiers.networks.geometry import RESIZE_MODES
from classifiers.networks.heads import HEADS
from classifiers.settings import Settings, one_of

GLANCE_LOGITS = ("head", "encoder")
"""What may make the first prediction."""

FIRST_LOOKS = ("glance", "center", "random")
"""What the first step may look at."""

ADJUSTABLE = ("patch_size", "patch_sizes", "patch_scales", "glance_size", "num_glimpses", "feature_stride")
"""Fields of `ClassifierSpec` that trained networks can have otherwise than they were trained with."""

_DEFAULT_SIDE = 96
LEAST_SIDE, MOST_SIDE = 8, 16_384
"""Smallest and largest side of a glance or a patch, in pixels."""

Side = Annotated[int, Field(ge=LEAST_SIDE, le=MOST_SIDE)]


def _encoder(name: str) -> str:
    check_encoder(name)
    return name


EncoderName = Annotated[str, AfterValidator(_encoder)]
"""The name of an encoder that can be built."""


class ClassifierSpec(Settings):
    """The architecture of a classifier, except for its number of classes.

    Attributes:
        encoder: a name that `classifiers.networks.encoders.build_encoder` knows.
        head: a key of `classifiers.networks.heads.HEADS`.
        patch_size: side P of the patches, in pixels (the paper's H' = W'); of several sizes, the largest.
        patch_sizes: sides that a patch may have, ascending (Section 4.2). A single size may be given as `patch_size`
            instead; without either, it is 96.
        patch_scales: scales of the concentric crops that a look takes in, ascending from 1: with `(1, 2, 4)`, f_L also
            sees what is around the patch, 2 and 4 times as wide, at half and a quarter of the resolution (a foveated
            sensor). Feature maps and pooled vectors are averaged over the scales. None, or `(1,)`, is the patch alone,
            as in the paper.
        glance_size: side of the glance, in pixels; None takes `patch_size`, as the paper does except in Table 3.
            Needed with several patch sizes.
        num_glimpses: longest sequence T, the glance included.
        hidden_size: units of the `gru` head; the others ignore it.
        resize_mode: how the image is resized for the glance, one of `classifiers.networks.geometry.RESIZE_MODES`.
        glance_logits: what makes the prediction after the glance in evaluation: `"head"`, or `"encoder"`, f_G's own
            classifier (the published RegNets; a `cascade` always does so).
        first_look: what the first step looks at: `"glance"`, the downsampled image, or, in Table 5's rows without the
            Glance Step, a full-resolution patch of the glance's size: `"center"` at the center, `"random"` anywhere.
        shares_encoder: whether f_G and f_L are one network (Table 5, without the global encoder).
        feature_stride: pixels between neighboring positions of the feature maps that the policy reads, one of
            `classifiers.networks.tracing.STRIDES`. None takes the encoder's last maps, as the paper does; small
            objects need finer ones, which an earlier layer has computed anyway.
    """

    encoder: EncoderName
    head: Annotated[str, one_of(HEADS)] = "gru"
    patch_size: Side = _DEFAULT_SIDE
    patch_sizes: Annotated[tuple[Side, ...], Field(min_length=1)] = (_DEFAULT_SIDE,)
    patch_scales: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    num_glimpses: Annotated[int, Field(ge=2)] = 5
    hidden_size: Annotated[int, Field(ge=1)] = 1024
    resize_mode: Annotated[str, one_of(RESIZE_MODES)] = "bicubic"
    glance_logits: Annotated[str, one_of(GLANCE_LOGITS)] = "head"
    first_look: Annotated[str, one_of(FIRST_LOOKS)] = "glance"
    shares_encoder: bool = False
    glance_size: Side | None = None
    feature_stride: Literal[4, 8, 16, 32] | None = None

    @property
    def num_frames(self) -> int | None:
        """Frames of a clip that the encoder takes; None if it takes images."""
        return clip_frames(self.encoder)

    @property
    def glance_side(self) -> int:
        """Side of the glance, in pixels."""
        return self.patch_size if self.glance_size is None else self.glance_size

    @property
    def scales(self) -> tuple[int, ...]:
        """Scales of a look's crops; 1 if it is the patch alone."""
        return self.patch_scales or (1,)

    @property
    def largest_side(self) -> int:
        """The larger of the sides of glance and patch: the smallest side of an image, in pixels."""
        return max(self.glance_side, self.patch_size)

    @model_validator(mode="before")
    @classmethod
    def _settle_sizes(cls, given: Any) -> Any:
        """Makes `patch_size` and `patch_sizes` agree, whichever was given."""
        if not isinstance(given, dict):
            return given
        one, several = given.get("patch_size"), given.get("patch_sizes")
        if isinstance(several, int):
            several = (several,)
        if several is None:
            several = (_DEFAULT_SIDE if one is None else one,)
        if isinstance(several, list | tuple) and several:
            if one not in (None, several[-1]):
                raise ValueError(f"patch_size={one} beside patch_sizes={list(several)}; pass one of them")
            one = several[-1]
        scales = given.get("patch_scales")
        return {
            **given,
            "patch_size": _DEFAULT_SIDE if one is None else one,
            "patch_sizes": several,
            "patch_scales": None if isinstance(scales, list | tuple) and tuple(scales) == (1,) else scales,
        }

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        sizes = list(self.patch_sizes)
        if any(small >= large for small, large in pairwise(sizes)):
            raise ValueError(f"patch_sizes={sizes} do not ascend; pass each size once, the smallest first")
        if len(sizes) > 1 and self.glance_size is None:
            raise ValueError(f"patch_sizes={sizes} without glance_size; pass glance_size, for example {sizes[0]}")
        scales = list(self.scales)
        if scales[0] != 1 or any(fine >= coarse for fine, coarse in pairwise(scales)):
            raise ValueError(f"patch_scales={scales} do not ascend from 1; pass some such as [1, 2, 4]")
        if len(scales) > 1 and self.num_frames is not None:
            raise ValueError(f"patch_scales={scales} with encoder={self.encoder}, which takes clips; leave them out")
        return self
