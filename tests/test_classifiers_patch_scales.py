"""Looks with several scales: concentric crops, coarser the larger they are."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from conftest import random_classifier

import agents
from agents.policies.baselines import RandomPolicy, encode_places
from agents.recognition.onnx_export import export_onnx
from agents.recognition.recognizer import Recognizer
from agents.runs.config_files import load_config
from agents.runs.cost import run_cost
from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.costs import encoder_cost, glimpse_costs
from classifiers.networks.geometry import crop_at, crop_scales
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusEnv, Task


def test_crops_are_concentric_and_averaged() -> None:
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    image = torch.stack([rows, columns])[None]  # values are indices
    location = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    which = torch.zeros(2, dtype=torch.int64)

    found = crop_scales(image, location, 4, (1, 2, 4), which)

    assert found.shape == (2, 3, 2, 4, 4)
    torch.testing.assert_close(found[:, 0], crop_at(image, location, 4, which))
    centers = found.mean((-2, -1))
    torch.testing.assert_close(centers[0], torch.tensor([11.5, 15.5]).expand(3, 2))  # all have one center
    torch.testing.assert_close(found[0, 1, 0, :, 0], torch.tensor([8.5, 10.5, 12.5, 14.5]))
    torch.testing.assert_close(found[0, 2, 1, 0], torch.tensor([9.5, 13.5, 17.5, 21.5]))
    # at the corner, the border is repeated: rows 0 to 3 and two above, columns 28 to 31 and two to the right
    torch.testing.assert_close(found[1, 1, 0, :, 0], torch.tensor([0.0, 0.5, 2.5, 4.5]))
    torch.testing.assert_close(found[1, 1, 1, 0], torch.tensor([26.5, 28.5, 30.5, 31.0]))


def test_pixels_stay_pixels() -> None:
    image = torch.randint(0, 256, (3, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    location = torch.rand(3, 2)

    found = crop_scales(image, location, 8, (1, 2))

    assert found.dtype == torch.uint8
    assert (found.float() - crop_scales(image.float(), location, 8, (1, 2))).abs().max() <= 0.5


def test_a_look_averages_what_its_scales_show(classifier: FrozenClassifier) -> None:
    foveated = classifier.with_spec(patch_size=16, patch_scales=(1, 2, 4))
    plain = classifier.with_spec(patch_size=16)
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    hidden, location = torch.zeros(2, classifier.hidden_size), torch.full((2, 2), 0.4)

    found = foveated.look(images, location, hidden)
    crops = foveated.patches(images, location)
    alone = torch.stack([plain.focus(crops[:, scale], hidden).pooled for scale in range(3)])

    torch.testing.assert_close(found.pooled, alone.mean(0), atol=1e-5, rtol=1e-5)
    assert found.features.shape == plain.look(images, location, hidden).features.shape
    pooled, _ = encode_places(foveated, images[:1], location[:1])
    torch.testing.assert_close(pooled[0], found.pooled[:1], atol=1e-5, rtol=1e-5)


def test_a_look_costs_all_of_its_crops(classifier: FrozenClassifier) -> None:
    one = encoder_cost(classifier.local_encoder, (16, 16), with_classifier=False)
    plain, foveated = (
        glimpse_costs(classifier.with_spec(patch_size=16, glance_size=48, patch_scales=scales))
        for scales in ((1,), (1, 2, 4))
    )

    assert plain[0] == foveated[0]
    assert foveated[1] - plain[1] == 2 * one
    changes = ["classifier.patch_scales=[1, 2, 4]", "classifier.patch_size=16", "classifier.glance_size=48"]
    counted = run_cost(load_config("synthetic_signs", changes), 10)
    assert counted.encoder == 3 * encoder_cost(classifier.local_encoder, (16, 16), with_classifier=False)


def test_an_environment_has_scales(scenes: ArrayImages, classifier: FrozenClassifier) -> None:
    env = GlanceFocusEnv(
        Task(scenes, classifier.with_spec(patch_scales=(1, 2))), EpisodeSpec(), render_mode="rgb_array"
    )
    plain = GlanceFocusEnv(Task(scenes, classifier), EpisodeSpec())
    for each in (env, plain):
        each.reset(seed=0)
    observation, _, _, _, info = env.step(np.zeros(2, np.float32))
    of_plain = plain.step(np.zeros(2, np.float32))

    assert env.observation_space == plain.observation_space and env.observation_space.contains(observation)
    assert not np.array_equal(observation["hidden"], of_plain[0]["hidden"])
    one = encoder_cost(classifier.local_encoder, (48, 48), with_classifier=False)
    assert info["multiply_adds"] - of_plain[4]["multiply_adds"] == one
    assert np.asarray(env.render()).ndim == 3


def test_gymnasium_makes_them_and_a_recognizer_looks_with_them() -> None:
    env = gymnasium.make(
        "gfnet_env:GFNet-SyntheticSigns-v0", num_scenes=4, patch_size=28, glance_size=48, patch_scales=(1, 2, 4)
    )
    env.reset(seed=0)
    assert env.step(np.zeros(2, np.float32))[4]["step"] == 2
    recognizer = Recognizer(env.unwrapped.dynamics.classifier, RandomPolicy(0), image_size=(96, 128))
    found = recognizer.predict(np.zeros((2, 96, 128, 3), np.uint8))
    assert (found.step == 4).all()
    with pytest.raises(ValueError, match="policy is not a trained network"):
        export_onnx(recognizer, "never")
    with pytest.raises(ValueError, match="patch_scales"):
        agents.make_agent("differentiable_crop", env).learn(32)


def test_they_are_kept_in_files_and_configs(tmp_path: Path) -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=16, hidden_size=8, patch_scales=(1, 3))
    trained = random_classifier(spec, 2)
    save_classifier(tmp_path / "c.safetensors", trained, ("a", "b"))
    loaded, _ = load_classifier(tmp_path / "c.safetensors")
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)

    assert loaded.spec == spec
    policy = RandomPolicy(0)
    first = [glimpse.logits for glimpse, _ in loaded.episode(images, RandomPolicy(0))]
    second = [glimpse.logits for glimpse, _ in frozen(trained).episode(images, policy)]
    torch.testing.assert_close(torch.stack(first), torch.stack(second), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scales", [(2,), (2, 4), (1, 1), (1, 4, 2), (), (1, 0)])
def test_scales_ascend_from_one(scales: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="patch_scales"):
        ClassifierSpec(encoder="small_resnet", patch_scales=scales)


def test_clips_have_none() -> None:
    with pytest.raises(ValueError, match="patch_scales"):
        ClassifierSpec(encoder="tsm4:small_resnet", patch_scales=(1, 2))
