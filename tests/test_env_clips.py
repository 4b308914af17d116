"""The environment on clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import expected_checker_warnings, random_classifier
from gymnasium.utils.env_checker import check_env

from agents import CentreCornerPolicy, OraclePolicy, RandomPolicy, evaluate, make_agent
from classifiers import ClassifierSpec, FitSpec, FrozenClassifier, frozen, train_sequences
from classifiers.data.loading import Prefetcher
from classifiers.data.source import ArrayImages
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.training.augmentation import augment
from gfnet_env import EpisodeSpec, GlanceFocusEnv, GlanceFocusVectorEnv, Task

_SPEC = ClassifierSpec(encoder="tsm4:small_resnet", head="cascade", patch_size=32, num_glimpses=3)


@pytest.fixture(scope="module")
def clips() -> ArrayImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, 4, 3, 64, 80), dtype=torch.uint8, generator=generator)
    return ArrayImages(pixels, torch.arange(6) % 3, torch.zeros(6, 4, dtype=torch.int64), ("push", "pull", "lift"))


@pytest.fixture(scope="module")
def clip_classifier() -> FrozenClassifier:
    return frozen(random_classifier(_SPEC, 3))


@expected_checker_warnings
def test_an_episode_is_one_clip(clips: ArrayImages, clip_classifier: FrozenClassifier) -> None:
    env = GlanceFocusEnv(Task(clips, clip_classifier), EpisodeSpec(), render_mode="rgb_array")
    check_env(env, skip_render_check=True)
    observation, info = env.reset(seed=0, options={"index": 2})
    action = np.array([1.0, -1.0], dtype=np.float32)

    observation, _, terminated, _, info = env.step(action)

    patches = clips.images[2:3, ..., 32:, :32]
    glance = clip_classifier.glance(clips.images[2:3])
    expected = clip_classifier.focus(patches, glance.hidden)
    assert np.allclose(observation["features"], expected.features[0], atol=1e-5)
    assert info["prediction"] == expected.logits.argmax() and not terminated
    assert info["top_left_px"].tolist() == [32, 0]
    frame = env.render()
    assert frame is not None and frame.shape[1] > 4 * frame.shape[0] > 0  # four frames side by side


@pytest.mark.parametrize("prefetched", [False, True])
def test_rows_of_a_vector_env_are_single_envs(
    prefetched: bool, clips: ArrayImages, clip_classifier: FrozenClassifier
) -> None:
    source = Prefetcher(clips, 1) if prefetched else clips
    envs = GlanceFocusVectorEnv(Task(source, clip_classifier), EpisodeSpec(), num_envs=2)
    singles = [GlanceFocusEnv(Task(clips, clip_classifier), EpisodeSpec()) for _ in range(2)]
    actions = np.array([[0.1, 0.9], [-0.6, 0.3]], dtype=np.float32)

    envs.reset(seed=7)
    observations, rewards, *_ = envs.step(actions)

    for row, single in enumerate(singles):
        single.reset(seed=7 + row)
        observation, reward, *_ = single.step(actions[row])
        assert np.isclose(reward, rewards[row], atol=1e-5)
        for key, value in observation.items():
            assert np.allclose(value, observations[key][row], atol=1e-4)
    envs.close()


def test_patches_of_clips_have_several_sizes(clips: ArrayImages, clip_classifier: FrozenClassifier) -> None:
    networks = clip_classifier.with_spec(patch_sizes=(32, 48))
    env = GlanceFocusEnv(Task(clips, networks), EpisodeSpec(), render_mode="rgb_array")
    env.reset(seed=0, options={"index": 2, "patch_sizes": [32, 48]})
    action = np.array([1.0, -1.0], dtype=np.float32)
    hidden = networks.glance(clips.images[2:3]).hidden

    for side in (32, 48):
        observation, _, _, _, info = env.step(action)
        expected = networks.focus(clips.images[2:3, ..., 64 - side :, :side], hidden)
        hidden = expected.hidden
        assert info["patch_size"] == side
        assert np.allclose(observation["features"], expected.features[0], atol=1e-5)

    assert env.render() is not None


def test_clips_and_images_are_not_mixed(clips: ArrayImages, clip_classifier: FrozenClassifier) -> None:
    short = ArrayImages(clips.images[:, :2], clips.labels, clips.boxes, clips.class_names)
    images = ArrayImages(clips.images[:, 0], clips.labels, clips.boxes, clips.class_names)

    with pytest.raises(
        ValueError, match="takes clips of 4 frames, the data set holds images; pass a classifier for im"
    ):
        Task(images, clip_classifier)
    with pytest.raises(ValueError, match="takes clips of 4 frames, the data set holds clips of 2 frames"):
        Task(short, clip_classifier)
    with pytest.raises(ValueError, match="the classifier takes images, the data set holds clips of 4 frames"):
        Task(clips, frozen(random_classifier(ClassifierSpec(encoder="small_resnet", patch_size=32), 3)))


def test_all_frames_of_a_clip_are_augmented_alike() -> None:
    frame = torch.randint(0, 256, (5, 1, 3, 24, 30), dtype=torch.uint8)
    images, clips = frame[:, 0], frame.expand(5, 4, 3, 24, 30)

    changed, of_images = (
        augment(x, torch.Generator().manual_seed(3), shift_px=5, flip=True).images for x in (clips, images)
    )

    assert changed.shape == clips.shape and not torch.equal(changed, clips)
    assert all(torch.equal(changed[:, index], of_images) for index in range(4))


def test_stage_one_trains_on_clips(clips: ArrayImages) -> None:
    classifier = GlanceFocusClassifier(_SPEC, 3)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}

    train_sequences(classifier, None, clips, FitSpec(epochs=1, batch_size=3, lr=0.01, shift_px=2), seed=0)

    after = classifier.state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in before if name.endswith("weight"))


def test_policies_are_evaluated_on_clips(clips: ArrayImages, clip_classifier: FrozenClassifier) -> None:
    for policy in (RandomPolicy(seed=0), CentreCornerPolicy(), OraclePolicy(clip_classifier, 2)):
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
    env.close()
