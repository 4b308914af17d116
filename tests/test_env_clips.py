"""Training, evaluation and agents on clips."""

from __future__ import annotations

import pytest
import torch

from agents import CenterCornerPolicy, OraclePolicy, RandomPolicy, evaluate, make_agent
from classifiers import FitSpec, FrozenClassifier, train_sequences
from classifiers.data.source import ArrayImages
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.training.augmentation import augment
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task


@pytest.fixture(scope="module")
def clips() -> ArrayImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, 4, 3, 64, 80), dtype=torch.uint8, generator=generator)
    return ArrayImages(pixels, torch.arange(6) % 3, torch.zeros(6, 4, dtype=torch.int64), ("push", "pull", "lift"))


def test_all_frames_of_a_clip_are_augmented_alike() -> None:
    frame = torch.randint(0, 256, (5, 1, 3, 24, 30), dtype=torch.uint8)
    images, clips = frame[:, 0], frame.expand(5, 4, 3, 24, 30)

    changed, of_images = (
        augment(x, torch.Generator().manual_seed(3), shift_px=5, flip=True).images for x in (clips, images)
    )

    assert changed.shape == clips.shape and not torch.equal(changed, clips)
    assert all(torch.equal(changed[:, index], of_images) for index in range(4))


def test_stage_one_trains_on_clips(clips: ArrayImages, clip_classifier: FrozenClassifier) -> None:
    classifier = GlanceFocusClassifier(clip_classifier.spec, 3)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}

    train_sequences(classifier, None, clips, FitSpec(epochs=1, batch_size=3, lr=0.01, shift_px=2), seed=0)

    after = classifier.state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in before if name.endswith("weight"))


def test_policies_are_evaluated_on_clips(clips: ArrayImages, clip_classifier: FrozenClassifier) -> None:
    for policy in (RandomPolicy(seed=0), CenterCornerPolicy(), OraclePolicy(clip_classifier, 2)):
        record = evaluate(clip_classifier, clips, policy)
        assert record.prediction.shape == (6, 3) and record.image_size == (64, 80)


def test_agents_learn_on_clips(clips: ArrayImages, clip_classifier: FrozenClassifier) -> None:
    env = GlanceFocusVectorEnv(
        Task(clips, clip_classifier), EpisodeSpec(reward="increment"), num_envs=4, autoreset_mode="SAME_STEP"
    )

    agent = make_agent("ppo", env, seed=0, n_steps=4, batch_size=8)
    agent.learn(16)

    observation, _ = env.reset(seed=0)
    assert agent.predict(observation, deterministic=True)[0].shape == (4, 2)
