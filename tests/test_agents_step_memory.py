"""What the steps of a run's trainings need is known before anything trains."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from conftest import SMALL_SCENES

from agents.algorithms.registry import AGENTS
from agents.runs.config import RunConfig
from agents.runs.config_files import load_config
from agents.runs.policy_training import check_stage2
from agents.runs.step_memory import FULL_RESOLUTION, LOW_RESOLUTION, STAGE1, STAGE2, STAGE3, step_sentences
from agents.runs.step_memory import training_memory as memory_of
from classifiers.data.source import ArrayImages
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.training.stages import train_full_resolution, train_sequences

FACTOR = 1.3
"""Within which what one black image keeps, times the images, is what a real step keeps."""


def _config(*changes: str) -> RunConfig:
    sizes = [f"data.scenes.height={SMALL_SCENES.height}", f"data.scenes.width={SMALL_SCENES.width}"]
    return load_config("synthetic_signs", [*sizes, "classifier.hidden_size=16", *changes])


def _kept_by_a_step(config: RunConfig, name: str, scenes: ArrayImages) -> int:
    """Bytes that the one step of a real training keeps for its backward pass, the weights left out."""
    shape, initial = config.classifier, config.initialization
    assert initial is not None and config.stage1 is not None
    of_sequences = name in (STAGE1, STAGE3)
    spec = {FULL_RESOLUTION: initial.full_resolution, STAGE1: config.stage1}[name].replace(
        epochs=1, batch_size=len(scenes)
    )
    network: Any = GlanceFocusClassifier(shape, 10)
    if not of_sequences:
        network = FullResolutionNetwork(build_encoder(shape.encoder, 10))
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        if of_sequences:
            train_sequences(network, None, scenes, spec, seed=0)
        else:
            train_full_resolution(network, scenes, spec, seed=0)
    return sum(kept.values())


@pytest.mark.parametrize("name", [FULL_RESOLUTION, STAGE1])
def test_the_estimate_is_what_a_real_step_keeps(name: str, scenes: ArrayImages) -> None:
    config = _config()

    each = memory_of(config, name).each / 1.5  # without the room for gradients of maps

    assert 1 / FACTOR < each * len(scenes) / _kept_by_a_step(config, name, scenes) < FACTOR


def test_parts_that_are_frozen_in_one_stage_are_trained_in_the_next() -> None:
    config = _config("stage1.frozen=[global_encoder, local_encoder]", "stage3.epochs=1")

    one, three = (memory_of(config, name).each for name in (STAGE1, STAGE3))

    assert 0 < one < three / 4
    assert memory_of(config, STAGE1).each == one


def test_every_training_has_a_sentence_in_its_order() -> None:
    config = _config("stage3.batch_size=64", "stage3.micro_batch_size=8", "stage1.batch_size=64")
    memory, names = memory_of(config, STAGE1), (FULL_RESOLUTION, LOW_RESOLUTION, STAGE1, STAGE2, STAGE3)
    free = math.ceil(memory.of(20))

    said = step_sentences(config, names, num_images=40, free=free, buffers=5 << 20)

    assert [sentence.partition(":")[0] for sentence in said] == [*names]
    first, _, _, second, third = said
    mib = f"{memory.of(40) / 2**20:.0f} MiB" if memory.of(40) < 2**30 else f"{memory.of(40) / 2**30:.1f} GiB"
    assert f"a step of 40 images needs {mib}, in 2 micro-batches" in said[2] and "are free" in said[2]
    assert "a step of 8 images" in third and "micro-batches" not in third
    assert "a step of 32 images" in first and "replay buffer" in second
    assert step_sentences(config, {STAGE1}, 40, None, 0)[0].endswith(f"needs {mib}")


def test_rollouts_are_counted_in_full_size() -> None:
    small, large = (check_stage2(load_config("demo", f"stage2.options.n_steps={steps}")) for steps in (3, 30))
    envs = AGENTS["ppo"].num_envs
    observation = 4 * (96 * 6 * 6 + 128)  # feature maps and the state of f_C, beside a few more numbers

    assert 27 * envs * observation < large - small < 1.05 * 27 * envs * observation
    assert check_stage2(load_config("demo", "stage2.agent=random")) == 0
