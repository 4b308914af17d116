"""Finds objects with a pretrained network, for data sets whose objects all belong to one of its classes.

Frames of road scenes are labeled with a number on a sign that fills 1 % of them. A network trained on whole frames
learns the backgrounds by heart, and one trained on random patches mostly sees none of the sign. A network pretrained on
ImageNet can't read the number, but knows street signs: it says where a patch is worth training on, and how much a
prediction from it should be believed. No boxes are needed. Not in the paper.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from classifiers.networks.encoders import Encoder
from classifiers.networks.geometry import crop_at, resize
from classifiers.networks.glimpse import Policy, View
from classifiers.networks.pretrained import imagenet_ids
from classifiers.networks.spec import ClassifierSpec

_JITTER = 0.25  # largest distance of a patch from where the class is strongest, as a fraction of its side


class KnownImages(NamedTuple):
    """A batch as it was before it was augmented, in which objects need not be searched for anew in every epoch.

    Attributes:
        images: (B, 3, H, W) uint8.
        moves: (B, 2, 3), see `classifiers.training.augmentation.Augmented`.
    """

    images: Tensor
    moves: Tensor


class ObjectGuide(nn.Module):
    """A pretrained network that finds objects of one of its classes by class activation mapping (Zhou et al., 2016).

    Args:
        encoder: the pretrained network, with its own classifier.
        label: the row of that classifier that all objects belong to.
    """

    def __init__(self, encoder: Encoder, label: int) -> None:
        super().__init__()
        self.encoder, self.label = encoder, label
        self._found: dict[bytes, Tensor] = {}  # by the image's digest
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def locate(self, images: Tensor, side: int) -> Tensor:
        """Where the class is most probable, according to the feature maps of the whole images.

        Each position is judged by the mean of the maps over a window as large as a patch, so that windows are
        classified as patches are, at the cost of one forward pass. What was found in an image is remembered.

        Args:
            images: (B, 3, H, W) uint8.
            side: of the patches, in pixels.

        Returns:
            (B, 2) locations of patches in [0, 1], (row, col), on the CPU.
        """
        return torch.stack([self._locate(image, side) for image in images])

    def _locate(self, image: Tensor, side: int) -> Tensor:
        digest = hashlib.blake2b(image.cpu().numpy().tobytes(), digest_size=16, salt=side.to_bytes(4, "big")).digest()
        if digest not in self._found:
            maps = self.encoder.encode_pixels(image[None]).features
            window = [
                min(size, max(1, round(side * size / pixels)))
                for size, pixels in zip(maps.shape[2:], image.shape[1:], strict=True)
            ]
            pooled = functional.avg_pool2d(maps, window, stride=1)
            log_probs = self.encoder.classifier(pooled.movedim(1, 3)).log_softmax(dim=3)[0, ..., self.label]  # (h, w)
            row, col = divmod(int(log_probs.argmax()), log_probs.shape[1])
            steps = [max(1, size - 1) for size in log_probs.shape]
            self._found[digest] = torch.tensor([row / steps[0], col / steps[1]])
        return self._found[digest]

    @torch.inference_mode()
    def probability(self, inputs: Tensor) -> Tensor:
        """The probability that patches or glances show an object of the class.

        Args:
            inputs: (B, 3, P, P), pixels in [0, 255].

        Returns:
            (B,) float32 in [0, 1].
        """
        logits: Tensor = self.encoder.classifier(self.encoder.encode_pixels(inputs).pooled)
        return logits.softmax(dim=1)[:, self.label]

    def random_policy(
        self, spec: ClassifierSpec, share: float, generator: torch.Generator, known: KnownImages | None = None
    ) -> Policy:
        """Stage I's random locations, some of them near the object.

        Args:
            spec: sizes of the patches.
            share: fraction of patches that lie near the object, at most a quarter of their side away in each direction.
            generator: where the random numbers come from, on the CPU.
            known: what was augmented to the images of the episode; None if nothing was.

        Returns:
            A policy without memory.
        """

        def locate(view: View, state: None) -> tuple[Tensor, None]:
            assert view.images is not None
            count, side = len(view.step), patch_side(spec, view)
            room = torch.tensor(view.images.shape[-2:]) - side
            if known is None:
                near = self.locate(view.images, side)
            else:
                near = _moved(self.locate(known.images, side), known.moves, room, side)
            near = near + (2 * torch.rand(count, 2, generator=generator) - 1) * _JITTER * side / room.clamp(min=1)
            anywhere = torch.rand(count, 2, generator=generator)
            is_near = torch.rand(count, 1, generator=generator) < share
            return torch.where(is_near, near.clamp(0, 1), anywhere).to(view.locations.device), state

        return locate


def _moved(locations: Tensor, moves: Tensor, room: Tensor, side: int) -> Tensor:
    """Where patches lie that follow their centers, (B, 2); outside [0, 1] if a center has left the image."""
    centers = locations * room + side / 2
    centers = torch.einsum("bij,bj->bi", moves[:, :, :2], centers) + moves[:, :, 2]
    moved: Tensor = (centers - side / 2) / room.clamp(min=1)
    return moved


class SeenObjects:
    """Follows a policy and judges how probably an object was seen, input by input.

    Args:
        guide: the judge.
        spec: sizes of glance and patches.
        policy: the policy to follow.
    """

    def __init__(self, guide: ObjectGuide, spec: ClassifierSpec, policy: Policy) -> None:
        self._guide, self._spec, self._policy = guide, spec, policy
        self._probabilities: list[Tensor] = []

    def __call__(self, view: View, state: object) -> tuple[Tensor, object]:
        """Where the policy looks next."""
        assert view.images is not None
        if not self._probabilities:
            self._probabilities.append(self._guide.probability(self._first(view)))
        location, state = self._policy(view, state)
        side = patch_side(self._spec, view)
        self._probabilities.append(self._guide.probability(crop_at(view.images, location, side)))
        return location, state

    def probabilities(self) -> Tensor:
        """(T, B) in [0, 1], for each input of the episode that was followed."""
        return torch.stack(self._probabilities)

    def _first(self, view: View) -> Tensor:
        assert view.images is not None
        side = self._spec.glance_side
        if view.first_location is not None:
            return crop_at(view.images, view.first_location, side)
        return resize(view.images, (side, side), self._spec.resize_mode)


def patch_side(spec: ClassifierSpec, view: View) -> int:
    """Side of the patch that is to be placed, in pixels; all rows of a training batch have the same."""
    return spec.patch_size if view.next_size is None else spec.patch_sizes[int(view.next_size[0].argmax())]


def imagenet_label(wordnet_id: str) -> int:
    """Label of one of ImageNet's classes.

    Args:
        wordnet_id: such as `n06794110`, street sign.

    Raises:
        ValueError: if it is none of the 1,000.
    """
    if wordnet_id not in imagenet_ids():
        raise ValueError(
            f"imagenet_class={wordnet_id!r}; pass the WordNet id of one of ImageNet's 1,000 classes, such as n06794110 "
            "(street sign)"
        )
    return imagenet_ids().index(wordnet_id)
