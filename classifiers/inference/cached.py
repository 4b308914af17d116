"""A classifier that encodes every image once: a look crops the feature maps of the whole image instead of its pixels.

For fast research: a look costs a look-up and a step of the head. Maps near a patch's border also saw what is beyond it,
so the head must be trained on such crops, and accuracies are not those of patches that are encoded by themselves.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.encoders import Encoding
from classifiers.networks.glance_focus import GlanceFocusClassifier

MAPS_VERSION = 2
"""Of the maps in the cache; to be raised by one whenever `encode_whole` comes to return others."""

_AT_ONCE = 16  # whole images in a forward pass
_RING = 1  # last cells along a patch's border that its vector leaves out, since most of what they saw is beyond it


class WholeMaps(NamedTuple):
    """What f_L says of N whole images. A patch lies at one of R x Q places, a cell of the last maps apart.

    Attributes:
        features: (N, h, w, C) float16, the feature maps that the policy reads, channels last.
        pooled: (N, R, Q, F) float16, the pooled vector of the patch at each place.
    """

    features: Tensor
    pooled: Tensor


class CachedClassifier(FrozenClassifier):
    """A frozen classifier of one patch size that knows the maps of some images; those of others it computes.

    A location l looks at the place round(l * (R - 1, Q - 1)), at most half a cell from the patch's own.

    Args:
        classifier: the networks; the head was trained on such crops.
        source: the images whose maps are known.
        maps: what `encode_whole` returns for them.
    """

    def __init__(self, classifier: GlanceFocusClassifier, source: ArrayImages, maps: WholeMaps) -> None:
        super().__init__(classifier)
        self._source = source
        self._maps = WholeMaps(*(each.to(self.device) for each in maps))

    def with_spec(self, **changes: Any) -> Self:
        """As `GlanceFocusClassifier.with_spec`, of the number of glimpses alone; raises a `ValueError` otherwise."""
        twin = super().with_spec(**changes)
        if twin.spec.replace(num_glimpses=self.spec.num_glimpses) != self.spec:
            raise ValueError(
                f"{', '.join(changes)} with feature maps that are cached for patches of {self.spec.patch_size} pixels; "
                "leave them out, or take the id without Cached"
            )
        return twin

    @torch.inference_mode()
    def encode_at(
        self, images: Tensor, location: Tensor, image_index: Tensor | None = None, size: int = -1
    ) -> Encoding:
        """Looks the patches up, as `GlanceFocusClassifier.encode_at`."""
        which = torch.arange(len(images), device=images.device) if image_index is None else image_index
        if images is self._source.on(self.device):
            maps = self._maps
        elif len(which) < len(images):
            maps, which = encode_whole(self, images[which]), torch.arange(len(which), device=images.device)
        else:
            maps = encode_whole(self, images)
        return _crop(maps, location, which, self.feature_shape())


def _crop(maps: WholeMaps, location: Tensor, which: Tensor, shape: tuple[int, int, int]) -> Encoding:
    """The maps and vectors of the patches at (B, 2) locations of images (B,)."""
    channels, rows, columns = shape
    last = torch.tensor(maps.pooled.shape[1:3], device=location.device) - 1
    row, column = (location * last).round().long().unbind(1)
    _, height, width, _ = maps.features.shape
    stride = (height - rows) // int(last[0])  # cells of the policy's maps in one of the last
    corner = (which * height + row * stride) * width + column * stride
    steps = torch.arange(rows, device=which.device)[:, None] * width + torch.arange(columns, device=which.device)
    cells = (corner[:, None, None] + steps).flatten()
    found = maps.features.flatten(0, 2).index_select(0, cells).view(-1, rows, columns, channels)
    return Encoding(found.permute(0, 3, 1, 2).float(), maps.pooled[which, row, column].float())


@torch.inference_mode()
def encode_whole(classifier: GlanceFocusClassifier, images: Tensor) -> WholeMaps:
    """Encodes whole images with f_L.

    Args:
        classifier: the networks; strides of both maps divide the sides of images and patches.
        images: (N, 3, H, W) uint8.

    Returns:
        The maps, on the images' device.
    """
    encoder = classifier.local_encoder
    parts = []
    for some in images.split(_AT_ONCE):
        maps = encoder.trunk(encoder.normalize(some))
        features, last = maps if isinstance(maps, tuple) else (maps, maps)
        side = classifier.spec.patch_size * last.shape[-1] // images.shape[-1]
        rows, columns = (range(length - side + 1) for length in last.shape[2:])
        inner = [
            (slice(r + _RING, r + side - _RING), slice(q + _RING, q + side - _RING)) for r in rows for q in columns
        ]
        pooled = [encoder.pool(last[..., *window]) for window in inner]
        grid = torch.stack(pooled, dim=1).half().unflatten(1, (len(rows), len(columns)))
        parts.append((features.permute(0, 2, 3, 1).half().contiguous(), grid))
    return WholeMaps(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
