"""GFNet without its policy: two encoders and a head that glance at an image and focus on patches (Section 3.2)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from classifiers.networks.encoders import Encoder, Encoding, build_encoder
from classifiers.networks.geometry import crop_at, crop_scales, resize
from classifiers.networks.glimpse import Glimpse, Policy, View
from classifiers.networks.heads import HEADS, Head
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.spec import ClassifierSpec


class SequenceLogits(NamedTuple):
    """Predictions along a whole episode.

    Attributes:
        logits: (T, B, K) of the head, before the softmax.
        encoder_logits: (T, B, K) of the encoders' own classifiers, FC_t of Eq. (6).
    """

    logits: Tensor
    encoder_logits: Tensor


class GlanceFocusClassifier(nn.Module):
    """f_G, f_L and f_C of Section 3.2. It keeps nothing between calls: the hidden state goes in and comes out.

    Images and patches are (B, 3, H, W). With an encoder of clips (`spec.num_frames`) every image is a clip of F frames,
    (B, F, 3, H, W), and a patch is cut from one place in all of them. The encoders normalize uint8 pixels in [0, 255];
    floating-point values must be normalized already. Images may have any height and width of at least
    `spec.largest_side`.

    Glance and patches may have several sizes, since the encoders are convolutional and pool globally. Smaller inputs'
    feature maps are then resized to the largest's, bilinearly with aligned corners, so that a policy always reads one
    shape.

    Section 4.2 resizes inside pi, after its 1x1 convolution. That convolution has no bias, so both orders give the same
    maps. Resizing here lets any policy read them, at the cost of a convolution over the larger ones.

    Args:
        spec: the architecture.
        num_classes: number K of classes, 2 or more.

    Raises:
        ValueError: if there are fewer than two classes.
    """

    def __init__(self, spec: ClassifierSpec, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}; pass 2 or more")
        global_encoder = build_encoder(spec.encoder, num_classes)
        local_encoder = global_encoder if spec.shares_encoder else build_encoder(spec.encoder, num_classes)
        if spec.feature_stride is not None:
            for encoder in {global_encoder, local_encoder}:
                encoder.use_feature_stride(spec.feature_stride, spec.encoder)
        head = HEADS[spec.head](
            global_encoder.pooled_size, num_classes, spec.num_glimpses, spec.hidden_size, spec.glance_logits
        )
        self._assemble(spec, global_encoder, local_encoder, head.float())

    def _assemble(self, spec: ClassifierSpec, global_encoder: Encoder, local_encoder: Encoder, head: Head) -> None:
        self.spec = spec
        self.num_classes = global_encoder.num_classes
        self.global_encoder = global_encoder
        self.local_encoder = local_encoder
        self.head = head
        self._feature_shape = self._measure()

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.local_encoder.classifier.weight.device

    @property
    def preprocessing(self) -> Preprocessing:
        """How images must be prepared for the encoders."""
        return self.local_encoder.preprocessing

    @property
    def hidden_size(self) -> int:
        """Length F_h of the hidden state."""
        return self.head.hidden_size

    def feature_shape(self) -> tuple[int, int, int]:
        """Shape (C, h, w) of the feature maps of one glance or patch."""
        return self._feature_shape

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 255], normalized as the encoders expect them; float32."""
        normalized: Tensor = self.local_encoder.normalize(pixels)
        return normalized

    def with_spec(
        self,
        *,
        patch_size: int | None = None,
        patch_sizes: int | Sequence[int] | None = None,
        patch_scales: Sequence[int] | None = None,
        glance_size: int | None = None,
        num_glimpses: int | None = None,
        feature_stride: int | None = None,
    ) -> Self:
        """The same networks with other sizes, feature maps or sequence length; the weights are shared, not copied.

        Accuracy drops at sizes that the networks were not trained on; stage III adapts them.

        Args:
            patch_size: side of the patches in pixels.
            patch_sizes: instead of `patch_size`, sides to choose from, ascending; None for both keeps the sizes.
            patch_scales: scales of a look's crops, see `ClassifierSpec`; None keeps them.
            glance_size: side of the glance in pixels; None keeps it: equal to the patches' if none was set and they
                have one size.
            num_glimpses: longest sequence T, the glance included; None keeps it.
            feature_stride: pixels between neighboring positions of the feature maps, see `ClassifierSpec`; None keeps
                them.

        Returns:
            The twin; the classifier itself if nothing changes.

        Raises:
            ValueError: if a number is out of range, the sizes do not ascend, the head can't take so many glimpses, or
                the encoders have no feature maps of that stride, or give those of another one already.
        """
        given: dict[str, Any] = {
            "patch_scales": patch_scales,
            "glance_size": glance_size,
            "num_glimpses": num_glimpses,
            "feature_stride": feature_stride,
        }
        changes = {key: value for key, value in given.items() if value is not None}
        if patch_size is not None or patch_sizes is not None:
            changes |= {"patch_size": patch_size, "patch_sizes": patch_sizes}
        if isinstance(patch_sizes, Sequence) and len(patch_sizes) > 1:
            changes.setdefault("glance_size", self.spec.glance_side)
        spec = self.spec.replace(**changes)
        if spec == self.spec:
            return self
        most = self.head.most_glimpses
        if most is not None and spec.num_glimpses > most:
            raise ValueError(
                f"num_glimpses={spec.num_glimpses} exceeds the {most} classifiers of the {spec.head} head; "
                f"pass at most {most}"
            )
        twin = copy.copy(self)
        twin.spec = spec
        twin.__dict__["_twin_of"] = self  # no submodule; whoever counts users of the networks counts twins
        if spec.feature_stride != self.spec.feature_stride:
            twin._give_finer_maps(self.spec.feature_stride)
        twin._feature_shape = twin._measure()
        return twin

    def _give_finer_maps(self, before: int | None) -> None:
        """Replaces the encoders by twins with the same weights that give the feature maps of `spec.feature_stride`."""
        stride = self.spec.feature_stride
        assert stride is not None
        if before is not None:
            raise ValueError(
                f"feature_stride={stride}, but these networks give feature maps of stride {before} already; pass that, "
                "or build them without"
            )
        memo: dict[int, Any] = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        encoders = {name: copy.deepcopy(getattr(self, name), memo) for name in ("global_encoder", "local_encoder")}
        self._modules = {**self._modules, **encoders}  # the other twin keeps its own
        for encoder in set(encoders.values()):
            encoder.use_feature_stride(stride, self.spec.encoder)

    def first_location(self, count: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Where the first step looks, if it sees a patch instead of the whole image (`spec.first_look`).

        Args:
            count: number B of images.
            generator: draws random places, on the CPU; None takes torch's own.

        Returns:
            (B, 2) in [0, 1], (row, col), on the classifier's device; None for a glance.
        """
        if self.spec.first_look == "random":
            return torch.rand(count, 2, generator=generator, dtype=torch.float32).to(self.device)
        if self.spec.first_look == "center":
            return torch.full((count, 2), 0.5, dtype=torch.float32, device=self.device)
        return None

    def first_input(self, images: Tensor, location: Tensor | None = None) -> Tensor:
        """The input of the first step: the whole images at low resolution, or a patch of each.

        Args:
            images: (B, 3, H, W), uint8 or float.
            location: (B, 2) in [0, 1], where the patches are; None takes `first_location`.

        Returns:
            (B, 3, G, G) float in the range of `images`, where G is `spec.glance_side`.
        """
        side = self.spec.glance_side
        location = self.first_location(len(images)) if location is None else location
        if location is not None:
            images = crop_at(images, location, side)
        return resize(images, (side, side), self.spec.resize_mode)

    def glance(self, images: Tensor, location: Tensor | None = None) -> Glimpse:
        """Looks at whole images at low resolution, or at a patch of each in their place: the first step.

        Args:
            images: (B, 3, H, W), uint8 pixels or normalized floats.
            location: see `first_input`.

        Returns:
            The first glimpse.
        """
        small = self.first_input(images, location)
        hidden = small.new_zeros(len(images), self.hidden_size)
        encode = self.global_encoder.encode_pixels if images.dtype == torch.uint8 else self.global_encoder
        return self._glimpse(self.global_encoder, encode(small), hidden, is_first=True)

    def focus(self, patches: Tensor, hidden: Tensor, step: int | None = None) -> Glimpse:
        """Looks at patches that are already cropped, a later step.

        Args:
            patches: (B, 3, P, P), uint8 pixels or normalized floats; with several scales (B, S, 3, P, P).
            hidden: (B, F_h) of the previous glimpse.
            step: see `Head.forward`.

        Returns:
            The next glimpse.
        """
        return self._glimpse(self.local_encoder, self.encode_patches(patches), hidden, is_first=False, step=step)

    def patches(self, images: Tensor, location: Tensor, image_index: Tensor | None = None, size: int = -1) -> Tensor:
        """The patch at each location.

        Args:
            images: (N, 3, H, W), any dtype.
            location: (B, 2) in [0, 1], (row, col).
            image_index: (B,) int64, the image that each patch comes from; None takes each image once, B = N.
            size: index of their size in `spec.patch_sizes`, by default the largest.

        Returns:
            (B, 3, P, P), where P is `spec.patch_sizes[size]`; with S > 1 `spec.scales` (B, S, 3, P, P).
        """
        side, scales = self.spec.patch_sizes[size], self.spec.scales
        if len(scales) > 1:
            return crop_scales(images, location, side, scales, image_index)
        return crop_at(images, location, side, image_index)

    def encode_patches(self, patches: Tensor) -> Encoding:
        """f_L alone.

        Args:
            patches: see `focus`.

        Returns:
            Feature maps and pooled vectors, averaged over the scales.
        """
        scales = len(self.spec.scales)
        flat = patches.flatten(0, 1) if scales > 1 else patches
        found = self.local_encoder.encode_pixels(flat) if patches.dtype == torch.uint8 else self.local_encoder(flat)
        return found if scales == 1 else Encoding(*(part.unflatten(0, (-1, scales)).mean(1) for part in found))

    def encode_at(
        self, images: Tensor, location: Tensor, image_index: Tensor | None = None, size: int = -1
    ) -> Encoding:
        """f_L alone, on the patch at each location: `encode_patches` of `patches`, whose arguments these are."""
        return self.encode_patches(self.patches(images, location, image_index, size))

    def look(
        self,
        images: Tensor,
        location: Tensor,
        hidden: Tensor,
        image_index: Tensor | None = None,
        size: int | Tensor = -1,
    ) -> Glimpse:
        """Looks at one patch of each image, a later step. Equal sizes share a forward pass.

        Args:
            images: (N, 3, H, W), uint8 pixels or normalized floats.
            location: (B, 2) in [0, 1], (row, col) of the patches.
            hidden: (B, F_h) of the previous glimpse.
            image_index: (B,) int64, the image that each patch comes from; None takes each image once, B = N.
            size: index of the patches' size in `spec.patch_sizes`, or (B,) int64 with one for each patch; by default
                the largest.

        Returns:
            The next glimpse.
        """
        if isinstance(size, int):
            encoded = self.encode_at(images, location, image_index, size)
            return self._glimpse(self.local_encoder, encoded, hidden, is_first=False)
        present = size.unique().tolist()
        if len(present) == 1:
            return self.look(images, location, hidden, image_index, present[0])
        if image_index is None:
            image_index = torch.arange(len(images), device=images.device)
        groups = [torch.nonzero(size == each)[:, 0] for each in present]
        parts = [
            self.look(images, location[rows], hidden[rows], image_index[rows], each)
            for rows, each in zip(groups, present, strict=True)
        ]
        order = torch.cat(groups).argsort()
        return Glimpse(*(torch.cat(values)[order] for values in zip(*parts, strict=True)))

    def episode(
        self,
        images: Tensor,
        policy: Policy,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        *,
        boxes: Tensor | None = None,
    ) -> Iterator[tuple[Glimpse, Tensor | None]]:
        """Looks at a batch of images for T steps: the loop of training, evaluation and pictures.

        With several patch sizes, one is drawn at random for each step of the batch (Section 4.2).

        Args:
            images: (B, 3, H, W), uint8 pixels or normalized floats.
            policy: where to look next.
            labels: (B,) int64, for policies that may see them (the oracle).
            generator: draws the first look of `first_look: random` and the sizes, on the CPU; None takes torch's own.
            boxes: (B, N, 4) int64, for policies that may see them (the reference policy).

        Yields:
            Each glimpse and where the policy placed it, (B, 2) in [0, 1]; None for the first.
        """
        num_sizes = len(self.spec.patch_sizes)

        def draw() -> Sequence[int]:
            return (int(torch.randint(num_sizes, (), generator=generator)) if num_sizes > 1 else 0,)

        first = self._first_view(images, labels, boxes, generator)
        for _, glimpse, location in self._walk(first, policy, draw, self.spec.num_glimpses):
            yield glimpse, location

    def histories(
        self,
        images: Tensor,
        policy: Policy,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        num_steps: int | None = None,
        *,
        boxes: Tensor | None = None,
    ) -> Iterator[tuple[int, Glimpse, Tensor | None]]:
        """Looks at a batch of images in all ways to choose the sizes of patches, each look once.

        With one patch size, this is `episode`.

        Args:
            images: see `episode`.
            policy: see `episode`.
            labels: see `episode`.
            generator: see `episode`.
            num_steps: stop after this many steps, at most T; None takes all T.
            boxes: see `episode`.

        Yields:
            The node of `classifiers.networks.size_histories`, a node's descendants right after it, its glimpse, and
            where the policy placed that, (B, 2) in [0, 1]; None for the first.
        """
        all_sizes = range(len(self.spec.patch_sizes))
        steps = self.spec.num_glimpses if num_steps is None else num_steps
        first = self._first_view(images, labels, boxes, generator)
        yield from self._walk(first, policy, lambda: all_sizes, steps)

    def _first_view(
        self, images: Tensor, labels: Tensor | None, boxes: Tensor | None, generator: torch.Generator | None
    ) -> View:
        """Takes the first look at a batch of images."""
        location = self.first_location(len(images), generator)
        glimpse, num_sizes = self.glance(images, location), len(self.spec.patch_sizes)
        return View.first(glimpse, images, self.spec.num_glimpses, labels, location, num_sizes, boxes, self.spec)

    def _walk(
        self, first: View, policy: Policy, choose: Callable[[], Sequence[int]], num_steps: int
    ) -> Iterator[tuple[int, Glimpse, Tensor | None]]:
        """The one loop over the steps: after every look it goes on with each of the sizes that `choose` returns."""
        images, num_sizes = first.images, len(self.spec.patch_sizes)
        assert images is not None

        def go_on(node: int, view: View, state: Any, left: int) -> Iterator[tuple[int, Glimpse, Tensor | None]]:
            for size in choose() if left else ():
                seen = view.with_next_size(size)
                location, memory = policy(seen, state)
                glimpse = self.look(images, location, view.glimpse.hidden, size=size)
                child = node * num_sizes + 1 + size
                yield child, glimpse, location
                yield from go_on(child, seen.after(location, glimpse), memory, left - 1)

        yield 0, first.glimpse, None
        yield from go_on(0, first, None, num_steps - 1)

    def forward(self, images: Tensor, policy: Policy, generator: torch.Generator | None = None) -> SequenceLogits:
        """A whole episode of T steps, differentiable in the encoders and the head, not in the locations.

        Args:
            images: (B, 3, H, W), uint8 pixels or normalized floats.
            policy: where to look next.
            generator: see `episode`.

        Returns:
            The predictions of all T steps.
        """
        logits, encoder_logits = [], []
        for glimpse, location in self.episode(images, policy, generator=generator):
            encoder = self.global_encoder if location is None else self.local_encoder
            logits.append(glimpse.logits)
            encoder_logits.append(encoder.classifier(glimpse.pooled))
        return SequenceLogits(torch.stack(logits), torch.stack(encoder_logits))

    def _glimpse(
        self,
        encoder: Encoder,
        encoded: Encoding,
        hidden: Tensor,
        *,
        is_first: bool,
        step: int | None = None,
    ) -> Glimpse:
        features, pooled = encoded
        encoder_logits = encoder.classifier(pooled) if self.head.reads_encoder_logits(is_first=is_first) else None
        logits, hidden = self.head(pooled, encoder_logits, hidden, step)
        if features.shape[1:] != self._feature_shape:
            features = functional.interpolate(features, self._feature_shape[1:], mode="bilinear", align_corners=True)
        return Glimpse(features, hidden, logits, pooled)

    @torch.no_grad()
    def _measure(self) -> tuple[int, int, int]:
        """Shape of the larger input's feature maps."""
        was_training, side = self.training, self.spec.largest_side
        encoder = self.eval().global_encoder
        channels, height, width = encoder(encoder.blank((side, side))).features.shape[1:]
        self.train(was_training)
        return channels, height, width
