"""Stage II compiles its classifier where that pays, and nothing but rounding changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_classifier
from torch._inductor import config as inductor

from agents.runs.config import Stage2Spec
from agents.runs.config_files import load_config
from agents.runs.policy_training import compiles_stage2, stage2_multiply_adds
from classifiers.data.source import ArrayImages
from classifiers.inference.compiled import CompiledEncoder
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task

PATCH = 6_368_256  # multiply-adds of small_resnet on 48x48 pixels


def test_the_work_of_stage_2_counts_the_rewards_crops(classifier: FrozenClassifier) -> None:
    increment = Stage2Spec(env_steps=1000, episode=EpisodeSpec(reward="increment"))
    contrastive = Stage2Spec(env_steps=1000, episode=EpisodeSpec(reward="contrastive", reward_samples=4))

    assert stage2_multiply_adds(increment, classifier) == 1000 * PATCH
    assert stage2_multiply_adds(contrastive, classifier) == 5 * 1000 * PATCH


@pytest.mark.parametrize(
    ("config", "pays"), [("demo", False), ("synthetic_signs", False), ("mobilenetv3_large_100_96", True)]
)
def test_long_trainings_are_compiled(config: str, pays: bool) -> None:
    loaded = load_config(config)

    assert compiles_stage2(loaded.stage2, GlanceFocusClassifier(loaded.classifier, 10)) is pays


def test_what_the_config_says_holds(classifier: FrozenClassifier) -> None:
    short, long = Stage2Spec(env_steps=10), Stage2Spec(env_steps=10**9)

    assert compiles_stage2(short.replace(compile=True), classifier)
    assert not compiles_stage2(long.replace(compile=False), classifier)


def test_without_a_compiler_nothing_is_compiled(classifier: FrozenClassifier) -> None:
    spec = Stage2Spec(env_steps=10**9)
    assert compiles_stage2(spec, classifier)

    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert not compiles_stage2(spec, classifier)


@pytest.mark.slow
def test_compiled_episodes_differ_by_rounding_only(
    scenes: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    networks = random_classifier(ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=4, hidden_size=16))
    eager, compiled = (
        GlanceFocusVectorEnv(
            Task(scenes, frozen(networks, compile=is_compiled)),
            EpisodeSpec(),
            num_envs=8,
            autoreset_mode="SAME_STEP",
        )
        for is_compiled in (False, True)
    )
    assert isinstance(compiled.dynamics.classifier.local_encoder, CompiledEncoder)
    assert np.array_equal(eager.dynamics.costs, compiled.dynamics.costs)
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 8, 2)).astype(np.float32)
    ours, theirs = eager.reset(seed=0)[0], compiled.reset(seed=0)[0]

    for action in actions:
        for key, value in ours.items():
            assert torch.allclose(torch.from_numpy(value), torch.from_numpy(theirs[key]), atol=1e-4, rtol=1e-4), key
        (ours, reward_a, done_a, *_), (theirs, reward_b, done_b, *_) = eager.step(action), compiled.step(action)
        assert np.allclose(reward_a, reward_b, atol=1e-5) and np.array_equal(done_a, done_b)
