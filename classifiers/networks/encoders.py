"""The encoders f_G and f_L by name: image networks split into feature maps, a pooled vector and a classifier.

The networks of the paper (Tables 4 and 9) have short names; any other classifier of torchvision or timm is
`torchvision:NAME` or `timm:NAME`. `tsmF:NAME` is such a network with temporal shift, for clips of F frames, as
`tsm8:resnet50`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from classifiers.checks import did_you_mean
from classifiers.networks.preprocessing import Normalize, Preprocessing
from classifiers.networks.pretrained import (
    Weights,
    check_library_name,
    find_weights,
    import_timm,
    library_network,
    library_preprocessing,
    load_weights,
    rows_of_classes,
)
from classifiers.networks.temporal_shift import shift_frames
from classifiers.networks.tracing import early_layers, split_network, with_finer_maps


class Encoding(NamedTuple):
    """The outputs of an encoder for a batch of images or clips.

    Attributes:
        features: (B, C, h, w) feature maps e_t (Section 3.2), the input of the patch proposal network; the last ones,
            or those of `Encoder.use_feature_stride`; of a clip, the mean of its frames' maps.
        pooled: (B, F) feature vectors, the input of the classifier; of a clip, the mean of its frames' vectors, so that
            the logits are the mean of its frames' logits.
    """

    features: Tensor
    pooled: Tensor


class Encoder(nn.Module):
    """A network split into trunk, pooling and its own classifier, with the preprocessing it expects.

    Args:
        trunk: (B, 3, H, W) -> (B, C, h, w), or a pair of such maps, for the policy and the last ones; of an encoder of
            clips, all frames together, clip by clip.
        pool: (B, C, h, w) -> (B, F), likewise.
        classifier: (B, F) -> (B, K), the network's own last layer.
        preprocessing: the preprocessing that its weights were trained with.
        num_frames: frames of a clip; None for images.
    """

    def __init__(
        self,
        trunk: nn.Module,
        pool: nn.Module,
        classifier: nn.Linear,
        preprocessing: Preprocessing = Preprocessing(),  # noqa: B008 - immutable
        num_frames: int | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.pool = pool
        self.classifier = classifier
        self.num_frames = num_frames
        self.use_preprocessing(preprocessing)
        self.float()  # whatever torch's default is

    def use_preprocessing(self, preprocessing: Preprocessing) -> None:
        """Sets the preprocessing, as the weights that were just loaded need it."""
        self.preprocessing = preprocessing
        self.normalize = Normalize(preprocessing).to(self.classifier.weight.device)

    def use_feature_stride(self, stride: int, name: str) -> None:
        """Makes its feature maps those of an earlier layer with this stride; its pooled vectors stay the same.

        Args:
            stride: in pixels, see `classifiers.networks.tracing.with_finer_maps`.
            name: its name in error messages.

        Raises:
            ValueError: if it has no maps of this stride.
        """
        self.trunk = with_finer_maps(self.trunk, stride, name, self.num_frames)

    def early_layers(self, stride: int) -> list[nn.Module]:
        """The layers up to its maps of a given stride in pixels; raises a `ValueError` if it has none."""
        return early_layers(self.trunk, stride, self.num_frames)

    @property
    def pooled_size(self) -> int:
        """Length F of the pooled vector."""
        return self.classifier.in_features

    @property
    def num_classes(self) -> int:
        """Number K of classes of its own classifier."""
        return self.classifier.out_features

    def blank(self, size: tuple[int, int]) -> Tensor:
        """A black input of a size in pixels, (1, 3, H, W) or, for clips of N frames, (1, N, 3, H, W)."""
        frames = () if self.num_frames is None else (self.num_frames,)
        return self.classifier.weight.new_zeros(1, *frames, 3, *size)

    def forward(self, images: Tensor) -> Encoding:
        """Encodes normalized images or clips.

        Args:
            images: (B, 3, H, W) float32, normalized; clips of N frames: (B, N, 3, H, W).

        Returns:
            The feature maps and the pooled vectors.

        Raises:
            ValueError: if images come where clips are expected, or the other way round, or clips of other lengths.
        """
        maps = self.trunk(self._frames(images))
        features, last = maps if isinstance(maps, tuple) else (maps, maps)
        return Encoding(self._by_input(features), self._by_input(self.pool(last)))

    def encode_pixels(self, pixels: Tensor) -> Encoding:
        """Normalizes pixels, then encodes them.

        Args:
            pixels: (B, 3, H, W) or (B, N, 3, H, W) in [0, 255], uint8 or float.

        Returns:
            What `forward` returns for the normalized images.
        """
        encoding: Encoding = self(self.normalize(pixels))
        return encoding

    @torch.no_grad()
    def keep_classes(self, rows: Sequence[int]) -> None:
        """Reduces its own classifier to some of its classes, in the order given.

        Args:
            rows: labels of the classes to keep.
        """
        if list(rows) == list(range(self.num_classes)):
            return
        old = self.classifier
        self.classifier = nn.Linear(old.in_features, len(rows), old.bias is not None)
        self.classifier.weight.copy_(old.weight[rows])
        if old.bias is not None:
            self.classifier.bias.copy_(old.bias[rows])

    def _frames(self, images: Tensor) -> Tensor:
        """Images as they are, the frames of all clips as so many images."""
        expected = "images (B, 3, H, W)" if self.num_frames is None else f"clips (B, {self.num_frames}, 3, H, W)"
        frames = () if self.num_frames is None else (self.num_frames,)
        if tuple(images.shape[1:-2]) != (*frames, 3):
            raise ValueError(f"the network takes {expected} and got {tuple(images.shape)}; pass what it takes")
        return images if self.num_frames is None else images.flatten(0, 1)

    def _by_input(self, values: Tensor) -> Tensor:
        """Values of images as they are, those of frames averaged over each clip."""
        if self.num_frames is None:
            return values
        return values.view(len(values) // self.num_frames, self.num_frames, *values.shape[1:]).mean(dim=1)


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a 1x1 shortcut (He et al., 2016, the basic block)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(in_channels, out_channels, stride),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C_in, h, w) -> (B, C_out, h / stride, w / stride)."""
        return torch.relu(self.residual(maps) + self.shortcut(maps))


def _convolution(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


Builder = Callable[[int, str | Path | None], Encoder]
"""`builder(num_classes, weights)`: weights are a library's name for them, a file, or None. The classifier of pretrained
weights may have other classes than asked for, which `build_encoder` then picks from or replaces."""


def _small_resnet(num_classes: int, weights: str | Path | None) -> Encoder:
    """The built-in tasks' network: 6.4 million multiply-adds at 48x48, maps of 96 channels and stride 8.

    Global *max* pooling: only the small region with the sign matters, which an average would drown out.
    """
    trunk = nn.Sequential(
        _convolution(3, 16, 2), _ResidualBlock(16, 32, 2), _ResidualBlock(32, 64, 2), _convolution(64, 96, 1)
    )
    encoder = Encoder(trunk, nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), nn.Linear(96, num_classes))
    if isinstance(weights, Path):
        load_weights(encoder, encoder.classifier, weights)
    elif weights is not None:
        raise ValueError(f"encoder 'small_resnet' has no pretrained weights {weights!r}; leave weights out")
    return encoder


def _from_library(name: str) -> Builder:
    """Of `torchvision:NAME` or `timm:NAME`."""

    def build(num_classes: int, weights: str | Path | None) -> Encoder:
        network = library_network(name, weights if isinstance(weights, str) else None)
        return _split(name, network, library_preprocessing(name, weights), weights)

    return build


def _wide_mobilenet(num_classes: int, weights: str | Path | None) -> Encoder:
    name = "mobilenetv3_large_125"
    if isinstance(weights, str):
        raise ValueError(f"encoder {name!r} has no published weights {weights!r}; leave weights out, or pass a file")
    models = import_timm().models  # has names for widths 0.75 and 1.0 only
    network = models.mobilenetv3._gen_mobilenet_v3("mobilenetv3_large_100", 1.25)
    return _split(name, network, weights_preprocessing(name, weights), weights)


def _split(name: str, network: nn.Module, preprocessing: Preprocessing, weights: str | Path | None) -> Encoder:
    parts = split_network(network, name)
    if isinstance(weights, Path):
        load_weights(network, parts.classifier, weights)  # its modules are those of the parts
    return Encoder(*parts, preprocessing)


def _with_temporal_shift(name: str, num_frames: int) -> Builder:
    build_network = _builder(name)

    def build(num_classes: int, weights: str | Path | None) -> Encoder:
        encoder = build_network(num_classes, weights)
        trunk = shift_frames(encoder.trunk, num_frames, name)
        return Encoder(trunk, encoder.pool, encoder.classifier, encoder.preprocessing, num_frames)

    return build


_LIBRARY_NAMES = {
    **{name: f"torchvision:{name}" for name in ("resnet18", "resnet50", "densenet121", "densenet169", "densenet201")},
    **{name: f"timm:{name}" for name in ("mobilenetv3_large_100", "efficientnet_b2", "efficientnet_b3")},
    "regnety_600m": "timm:regnety_006.pycls_in1k",
    "regnety_800m": "timm:regnety_008.pycls_in1k",
    "regnety_1.6g": "timm:regnety_016.pycls_in1k",
}
"""Whose network each name of `ENCODERS` is."""

ENCODERS: dict[str, Builder] = {
    "small_resnet": _small_resnet,
    **{name: _from_library(whole) for name, whole in _LIBRARY_NAMES.items()},
    "mobilenetv3_large_125": _wide_mobilenet,
}
"""Builders by name; add an entry for an encoder of your own."""


def weights_preprocessing(name: str, weights: Weights | None) -> Preprocessing:
    """The preprocessing that `build_encoder` gives an encoder of these weights; nothing is built or downloaded.

    Args:
        name: of an encoder, see `build_encoder`.
        weights: its pretrained weights, likewise.

    Returns:
        The preprocessing; the default one where nothing is known of the encoder or its weights.
    """
    name = _of_images(name)
    if name == "mobilenetv3_large_125":
        name = "mobilenetv3_large_100"
    return library_preprocessing(_LIBRARY_NAMES.get(name, name), weights)


def check_encoder(name: str) -> None:
    """Checks that `build_encoder` knows a name.

    Raises:
        ValueError: if there is no such encoder.
    """
    _builder(name)


def clip_frames(name: str) -> int | None:
    """Frames of the clips that an encoder of this name takes, F of `tsmF:NAME`; None if it takes images."""
    match = re.fullmatch(r"tsm([1-9]\d*):(?!tsm).+", name)
    return int(match[1]) if match else None


def build_encoder(
    name: str,
    num_classes: int,
    weights: Weights | None = None,
    class_names: Sequence[str] | None = None,
    *,
    may_replace_classifier: bool = True,
) -> Encoder:
    """Builds an encoder.

    Args:
        name: a key of `ENCODERS`, `torchvision:NAME`, `timm:NAME`, or one of these after `tsmF:` for clips of F frames.
        num_classes: number K of classes of its own classifier.
        weights: pretrained weights; None for random ones. Either a library's own, downloaded once: `"DEFAULT"`, or one
            of torchvision's names (`"IMAGENET1K_V2"`); for timm, the model's name selects them
            (`timm:convnext_tiny.fb_in22k`). Or a file: see `classifiers.networks.pretrained.load_weights`. Or
            `"package:NAME"`, a key of `classifiers.networks.pretrained.PACKAGES`.
        class_names: names of the K classes. Where all are ImageNet's WordNet ids, such as `n01440764`, the pretrained
            classifier's rows of these classes are kept.
        may_replace_classifier: whether a pretrained classifier of other classes gives way to a new one with random
            weights, which has to be trained; if not, it raises.

    Returns:
        The encoder, in training mode.

    Raises:
        OSError: if there is no such file, or the library's weights can't be downloaded.
        ValueError: if there is no such encoder or weights, they don't fit each other, or the network has no feature
            map; if the weights' classes are others and must not be replaced.
    """
    builder = _builder(name)
    encoder = builder(num_classes, find_weights(weights, _of_images(name)))
    known = encoder.num_classes
    rows = rows_of_classes(known, num_classes, class_names) if weights is not None else None
    if rows is not None:
        encoder.keep_classes(rows)
    elif not may_replace_classifier:
        raise ValueError(
            f"weights={str(weights)!r} of {name} know {known} classes, which are not the data set's {num_classes}"
            f"{_some(class_names)}; train stage I on these (`gfnet train`), or pass weights of theirs or a data set "
            "whose classes are named by ImageNet's WordNet ids"
        )
    elif known != num_classes:
        encoder.classifier = nn.Linear(encoder.pooled_size, num_classes)
    return encoder


def _of_images(name: str) -> str:
    """The encoder of images that an encoder of clips is made of; one of images is its own."""
    return name if clip_frames(name) is None else name.partition(":")[2]


def _some(names: Sequence[str] | None) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


def _builder(name: str) -> Builder:
    if name in ENCODERS:
        return ENCODERS[name]
    if (num_frames := clip_frames(name)) is not None:
        return _with_temporal_shift(_of_images(name), num_frames)
    if name.startswith(("torchvision:", "timm:")):
        check_library_name(name)
        return _from_library(name)
    raise ValueError(
        f"encoder={name!r} is unknown; {did_you_mean(name, ENCODERS)}pass one of {', '.join(ENCODERS)}, "
        "torchvision:NAME, timm:NAME, or, for clips, tsm8:NAME"
    )
