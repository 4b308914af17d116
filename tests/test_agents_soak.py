"""A recognizer that is used for long: its memory stays what it was."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import random_classifier

from agents.algorithms.make_agent import make_agent
from agents.policies.deterministic import DeterministicPolicy
from agents.recognition.recognizer import Recognizer
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import frozen
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task

PREDICTIONS, WARM_UP = 30_000, 6_000
MOST_GROWTH = 20e6  # bytes; a leak of one image each would be 80 MB


def _memory() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_memory_is_flat_over_30_000_predictions(scenes: ArrayImages) -> None:
    """Batches of many sizes, single images among them, images of several sizes, exits at every step, errors."""
    spec = ClassifierSpec(encoder="small_resnet", patch_size=16, num_glimpses=3, hidden_size=8)
    classifier = frozen(random_classifier(spec))
    env = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=2, autoreset_mode="SAME_STEP")
    agent = make_agent("ppo_gru", env, policy_kwargs={"extractor": {"conv_channels": 2, "units": 8}})
    recognizer = Recognizer(classifier, DeterministicPolicy(agent), batch_size=64)  # type: ignore[arg-type]  # on-policy
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (128, 36, 44, 3), dtype=np.uint8)
    thresholds = []
    for looks in (1, 2):
        recognizer.use(num_glimpses=looks)
        thresholds.append(float(np.median(recognizer.predict(pixels).confidence)))
    recognizer.use(thresholds=thresholds)
    done, calls, steps, warm = 0, 0, np.zeros(3, int), 0

    while done < PREDICTIONS:
        count = 1 if calls % 5 == 0 else int(rng.integers(2, 129))
        height, width = (36, 44) if calls % 3 else (int(rng.integers(16, 37)), int(rng.integers(16, 45)))
        found = recognizer.predict(pixels[:count, :height, :width])
        steps += np.bincount(found.step - 1, minlength=3)
        done, calls = done + count, calls + 1
        if calls % 50 == 0:
            with pytest.raises(ValueError, match="smaller than the 16x16 patches"):
                recognizer.predict(pixels[:, :8])
        if not warm and done >= WARM_UP:
            warm = _memory()

    assert (steps > PREDICTIONS / 20).all() and steps.sum() == done
    assert _memory() - warm < MOST_GROWTH
