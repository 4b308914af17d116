"""Default agents on feature maps and logits as large as those of networks pretrained on photos."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.algorithms.make_agent import make_agent
from agents.algorithms.stage2 import train_agent
from agents.evaluation.diagnostics import diagnose
from agents.evaluation.metrics import pointing_game
from agents.evaluation.rollout import evaluate
from agents.policies.deterministic import DeterministicPolicy
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import ENCODERS, Encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task

_CHANNELS, _LARGEST, _LOGIT = 48, 50.0, 40.0
STEPS = {"ppo": 256 * 40, "ppo_gru": 256 * 60, "a2c": 256 * 80, "sac": 12_000}


class _LoudMaps(nn.Module):
    """(B, 3, H, W) -> (B, 48, 4, 4) non-negative maps, mean about 1 and at most 50, as those of photo networks."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mix = nn.Conv2d(3, _CHANNELS, 1)
        with torch.no_grad():
            self.mix.weight.copy_(torch.randn(_CHANNELS, 3, 1, 1, generator=generator))
            self.mix.bias.copy_(torch.randn(_CHANNELS, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return (torch.relu(self.mix(nn.functional.adaptive_avg_pool2d(images, 4))).pow(3)).clamp(max=_LARGEST)


class _Redness(nn.Module):
    """(B, 48, 4, 4) -> (B, 2): how red the reddest place is, as logits of +-40."""

    def __init__(self, maps: _LoudMaps) -> None:
        super().__init__()
        self.reddest = int((maps.mix.weight[:, 0] - maps.mix.weight[:, 1:].sum(1)).flatten().argmax())

    def forward(self, maps: Tensor) -> Tensor:
        red = maps[:, self.reddest].flatten(1).amax(1) / _LARGEST
        return torch.stack([red, 1.0 - red], dim=1)


def _loud(num_classes: int, weights: Any) -> Encoder:
    maps, classifier = _LoudMaps(), nn.Linear(2, num_classes)
    with torch.no_grad():
        classifier.weight.copy_(2 * _LOGIT * torch.eye(2))
        classifier.bias.fill_(-_LOGIT)
    return Encoder(maps, _Redness(maps), classifier)


@pytest.fixture
def loud_classifier(monkeypatch: pytest.MonkeyPatch) -> FrozenClassifier:
    monkeypatch.setitem(ENCODERS, "loud", _loud)
    spec = ClassifierSpec(encoder="loud", head="average", patch_size=12, num_glimpses=3, resize_mode="area")
    return frozen(GlanceFocusClassifier(spec, 2))


@pytest.fixture
def red_spot_images() -> ArrayImages:
    """Noisy 48x48 images with a red spot of 8x8 pixels in one of three places, which the glance shows faintly."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(90, 130, (96, 3, 48, 48), generator=generator, dtype=torch.uint8)
    boxes = []
    for index in range(96):
        top, left = ((6, 34), (34, 8), (34, 34))[index % 3]
        images[index, 0, top : top + 8, left : left + 8] = 255
        images[index, 1:, top : top + 8, left : left + 8] = 0
        boxes.append([[top, left, top + 8, left + 8]])
    return ArrayImages(images, torch.zeros(96, dtype=torch.int64), torch.tensor(boxes), ("red", "other"))


def test_the_maps_are_as_large_as_those_of_photo_networks(
    loud_classifier: FrozenClassifier, red_spot_images: ArrayImages
) -> None:
    glimpse = loud_classifier.glance(red_spot_images.fetch(torch.arange(96)).images)
    assert 0.3 < glimpse.features.mean() < 3.0
    assert glimpse.features.max() > 10.0
    assert glimpse.logits.abs().max() > 20.0


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "ppo" else [pytest.mark.slow]) for n in STEPS])
def test_default_agents_find_the_place_through_large_features(
    name: str, loud_classifier: FrozenClassifier, red_spot_images: ArrayImages
) -> None:
    env = GlanceFocusVectorEnv(
        Task(red_spot_images, loud_classifier), EpisodeSpec(), num_envs=64, autoreset_mode="SAME_STEP"
    )
    agent = make_agent(name, env, seed=0)

    train_agent(agent, STEPS[name], seed=0, action_std_schedule=(0.25, 0.04))

    record = evaluate(loud_classifier, red_spot_images, DeterministicPolicy(agent))
    assert pointing_game(record)[-1] > (0.6 if name == "sac" else 0.9)  # random places: 0.15
    assert name == "sac" or not diagnose(record).collapsed  # sac's later glimpses stay on the spot that it has found
