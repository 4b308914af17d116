"""What a pretrained network knows of where objects are, and what stage I makes of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from conftest import random_classifier
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from classifiers.data.source import ArrayImages
from classifiers.networks.encoders import build_encoder
from classifiers.networks.geometry import crop_at
from classifiers.networks.glance_focus import SequenceLogits
from classifiers.networks.glimpse import View
from classifiers.networks.spec import ClassifierSpec
from classifiers.training.augmentation import augment
from classifiers.training.fit_spec import FitSpec
from classifiers.training.object_guide import KnownImages, ObjectGuide, SeenObjects, imagenet_label
from classifiers.training.stages import sequence_loss, train_sequences

_CUP = "n07920052"  # espresso
_SIDE = 96


@pytest.fixture(scope="module")
def guide() -> ObjectGuide:
    """Lite0, looking for a cup of coffee."""
    encoder = build_encoder("timm:tf_efficientnet_lite0", 1000, "package:efficientnet-lite0")
    return ObjectGuide(encoder, imagenet_label(_CUP))


@pytest.fixture(scope="module")
def cups() -> ArrayImages:
    """Four images (4, 3, 288, 320), each of a gray of its own, with a small photo of a cup in one of their corners."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None and spec.origin is not None
    cup = Image.open(Path(spec.origin).parent / "data" / "coffee.png").convert("RGB")
    small = pil_to_tensor(cup.crop((130, 30, 500, 400)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    grays = torch.tensor([90, 105, 120, 135], dtype=torch.uint8)
    images = grays.view(4, 1, 1, 1).repeat(1, 3, 288, 320)
    for image, (row, col) in zip(images, _corners(), strict=True):
        image[:, row : row + _SIDE, col : col + _SIDE] = small
    return ArrayImages(images, torch.arange(4), torch.zeros(4, 4, dtype=torch.int64), tuple("abcd"))


def _corners() -> list[tuple[int, int]]:
    return [(row, col) for row in (0, 288 - _SIDE) for col in (0, 320 - _SIDE)]


def test_the_object_is_found_wherever_it_is(guide: ObjectGuide, cups: ArrayImages) -> None:
    found = guide.locate(cups.images, _SIDE)
    expected = torch.tensor([[row / (288 - _SIDE), col / (320 - _SIDE)] for row, col in _corners()])

    assert (found - expected).abs().max() <= 32 / (288 - _SIDE) + 1e-6, "further away than one cell of the maps"
    shows = guide.probability(crop_at(cups.images, found, _SIDE))
    empty = guide.probability(crop_at(cups.images, 1 - found, _SIDE))
    assert shows.min() > 10 * empty.max()


def test_places_are_remembered(guide: ObjectGuide, cups: ArrayImages, monkeypatch: pytest.MonkeyPatch) -> None:
    found = guide.locate(cups.images, _SIDE)
    monkeypatch.setattr(guide.encoder, "encode_pixels", lambda images: pytest.fail("computed again"))
    assert torch.equal(guide.locate(cups.images, _SIDE), found)


def test_a_share_of_stage_one_lies_near_the_object(guide: ObjectGuide, cups: ArrayImages) -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=_SIDE, num_glimpses=3, hidden_size=8)
    glimpse = random_classifier(spec, num_classes=4).glance(cups.images)
    view = View.first(glimpse, cups.images, 3)
    found, room = guide.locate(cups.images, _SIDE), torch.tensor([288, 320]) - _SIDE

    def near(share: float) -> Tensor:
        policy = guide.random_policy(spec, share, torch.Generator().manual_seed(0))
        places = torch.stack([policy(view, None)[0] for _ in range(100)])  # (100, 4, 2)
        assert places.min() >= 0 and places.max() <= 1 and len(places.unique(dim=0)) == 100
        return (((places - found).abs() * room) <= _SIDE / 4 + 1e-3).all(dim=2).float().mean()

    assert near(1.0) == 1
    assert near(0.0) < 0.2
    assert 0.4 < near(0.5) < 0.7


def test_places_follow_what_augmentation_does(guide: ObjectGuide, cups: ArrayImages) -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=_SIDE, num_glimpses=2, hidden_size=8)
    images, moves = augment(
        cups.images, torch.Generator().manual_seed(3), shift_px=40, flip=True, zoom=1.2, rotation=10
    )
    view = View.first(random_classifier(spec, num_classes=4).glance(images), images, 2)
    known = KnownImages(cups.images, moves)
    places, _ = guide.random_policy(spec, 1.0, torch.Generator().manual_seed(0), known)(view, None)

    assert (moves[:, 1, 1] < 0).any() and (moves[:, 1, 1] > 0).any(), "some are mirrored, some are not"
    room = torch.tensor([288, 320]) - _SIDE
    centers = torch.tensor([[row + _SIDE / 2, col + _SIDE / 2, 1] for row, col in _corners()])
    centers = torch.einsum("bij,bj->bi", moves, centers)
    expected = (centers - _SIDE / 2).clamp(torch.zeros(2), room.float())
    assert (places * room - expected).abs().max() <= _SIDE / 4 + 32, "one cell of the maps, and a quarter of a patch"


def test_what_an_input_shows_is_followed_along_an_episode(guide: ObjectGuide, cups: ArrayImages) -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=_SIDE, num_glimpses=3, hidden_size=8)
    found = guide.locate(cups.images, _SIDE)
    places = iter([1 - found, found])
    followed = SeenObjects(guide, spec, lambda view, state: (next(places), state))
    random_classifier(spec, num_classes=4)(cups.images, followed)

    seen = followed.probabilities()
    assert seen.shape == (3, 4)
    assert torch.allclose(seen[2], guide.probability(crop_at(cups.images, found, _SIDE)))
    assert (seen[2] > 10 * seen[1]).all() and (seen[2] > seen[0]).all()


def test_targets_are_the_label_as_far_as_the_object_was_seen() -> None:
    logits, encoder_logits = torch.randn(3, 2, 5), torch.randn(3, 2, 5)
    predictions, labels = SequenceLogits(logits, encoder_logits), torch.tensor([1, 4])

    everything = sequence_loss(predictions, labels, 0.5, torch.ones(3, 2))
    assert torch.allclose(everything, sequence_loss(predictions, labels, 0.5))

    nothing = sequence_loss(predictions, labels, 0.5, torch.zeros(3, 2))
    alike = -logits.log_softmax(2).mean() - 0.5 * encoder_logits.log_softmax(2).mean()
    assert torch.allclose(nothing, alike)

    seen = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.5, 1.0]])
    weights = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.75, 1.0]])  # 1 - product of (1 - p) so far
    of_label = -logits.log_softmax(2)[:, torch.arange(2), labels]
    of_all = -logits.log_softmax(2).mean(2)
    expected = (weights * of_label + (1 - weights) * of_all).mean()
    assert torch.allclose(sequence_loss(predictions, labels, 0.0, seen), expected, atol=1e-6)


class _KnowsCups(ObjectGuide):
    """Knows the cups of `cups` without a network."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def locate(self, images: Tensor, side: int) -> Tensor:
        return torch.tensor([[row / (288 - side), col / (320 - side)] for row, col in _corners()])

    def probability(self, inputs: Tensor) -> Tensor:
        return (inputs.float().std(dim=(1, 2, 3)) > 20).float()  # gray has none


def test_stage_one_learns_the_object_and_not_the_background(cups: ArrayImages) -> None:
    spec = ClassifierSpec(
        encoder="small_resnet", head="average", patch_size=_SIDE, glance_size=32, num_glimpses=2, resize_mode="area"
    )
    fit = FitSpec(epochs=25, batch_size=4, optimizer="adamw", lr=3e-3, object_share=0.5)

    def confidence(guide: ObjectGuide | None) -> Tensor:
        """Of the label, in patches without the object."""
        torch.manual_seed(0)
        classifier = random_classifier(spec, num_classes=4)
        train_sequences(classifier, None, cups, fit, guide, seed=0)
        patches = crop_at(cups.images, torch.full((4, 2), 0.5), _SIDE)
        with torch.inference_mode():
            logits = classifier.local_encoder.classifier(classifier.local_encoder.encode_pixels(patches).pooled)
        return logits.softmax(1).amax(1)

    assert confidence(_KnowsCups()).mean() < 0.4
    assert confidence(None).mean() > 0.6


def test_unknown_classes_are_named() -> None:
    with pytest.raises(ValueError, match="imagenet_class='street sign'"):
        imagenet_label("street sign")
