"""How much memory a step of each stage of a run needs, measured on one black image before anything trains."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn
from torch.nn import functional

from agents.runs.config import RunConfig
from agents.runs.run import black_image
from classifiers.data.source import default_class_names
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.training.distributed import process_count
from classifiers.training.fit_spec import PRECISIONS, FitSpec
from classifiers.training.memory import StepMemory, step_memory
from classifiers.training.stages import frozen_parts, random_policy, sequence_loss

FULL_RESOLUTION, LOW_RESOLUTION, STAGE1, STAGE2, STAGE3 = (
    "full-resolution network",
    "low-resolution network",
    "stage I",
    "stage II",
    "stage III",
)
"""What messages call the trainings of a run, in their order."""

_CLASSES = 10  # where the data do not say; the last layers are small


def step_sentences(
    config: RunConfig, trainings: Collection[str], num_images: int, free: int | None, buffers: int
) -> list[str]:
    """What a step of some trainings needs, a sentence for each.

    The networks of each training are built anew, and what their forward pass on one image keeps is scaled to the images
    of a micro-batch; parameters, gradients and the optimizer's moments are added. Of stage II, its networks and the
    rollouts or replay buffer are counted; its steps are small beside them.

    Args:
        config: the run's.
        trainings: some of the names above; those that the config leaves out are passed over.
        num_images: training images.
        free: bytes that tensors can take; None where that is unknown.
        buffers: bytes of stage II's rollouts or replay buffer and its agent.

    Returns:
        The sentences, in the order of the trainings.
    """
    said = []
    for name, spec in _specs(config).items():
        if name not in trainings:
            continue
        if spec is None:
            classifier = GlanceFocusClassifier(config.classifier, _num_classes(config))
            said.append(f"{name}: rollouts or replay buffer and networks need {_gib(buffers + _bytes(classifier))}")
        elif spec.epochs > 0:
            images = max(1, min(spec.batch_size, num_images) // process_count())
            images = min(images, spec.micro_batch_size or images)
            said.append(f"{name}: {_needs(training_memory(config, name), images, free)}")
    return said


def training_memory(config: RunConfig, name: str) -> StepMemory:
    """What a step of a training of networks needs, all but stage II's.

    Args:
        config: the run's.
        name: one of the names above.
    """
    spec, image = _specs(config)[name], black_image(config, default_class_names(_CLASSES)).images
    assert spec is not None
    label, generator = torch.zeros(1, dtype=torch.int64), torch.Generator()
    if name in (FULL_RESOLUTION, LOW_RESOLUTION):
        encoder = build_encoder(config.classifier.encoder, _num_classes(config))
        side = config.classifier.glance_side
        if name == LOW_RESOLUTION and config.initialization is not None:
            side = max(side, *config.initialization.low_resolution_sides, 0)
        size = None if name == FULL_RESOLUTION else (side, side)
        network = FullResolutionNetwork(encoder, size, config.classifier.resize_mode)
        return _measure(network, lambda: functional.cross_entropy(network(image), label), spec)
    classifier = GlanceFocusClassifier(config.classifier, _num_classes(config))
    for part in frozen_parts(classifier, spec):
        getattr(classifier, part).requires_grad_(False)

    def loss() -> Tensor:
        predictions = classifier(image, random_policy(generator), generator)
        return sequence_loss(predictions, label, spec.regularization)

    return _measure(classifier, loss, spec)


def agent_bytes(agent: BaseAlgorithm) -> int:
    """Bytes of an agent's rollouts or replay buffer once it is full, and of its weights with their moments."""
    buffers = (getattr(agent, name, None) for name in ("rollout_buffer", "replay_buffer"))
    held = [value for buffer in buffers if buffer is not None for value in vars(buffer).values()]
    arrays = [array for value in held for array in (value.values() if isinstance(value, dict) else (value,))]
    return sum(each.nbytes for each in arrays if isinstance(each, np.ndarray)) + 4 * _bytes(agent.policy)


def _specs(config: RunConfig) -> dict[str, FitSpec | None]:
    """The settings of the trainings that a run consists of; None for stage II."""
    initial, specs = config.initialization, dict[str, FitSpec | None]()
    if initial is not None:
        specs[FULL_RESOLUTION] = initial.full_resolution
        if initial.networks_from == "full_resolution" and not config.classifier.shares_encoder:
            specs[LOW_RESOLUTION] = initial.low_resolution
    if config.stage1 is not None:
        specs[STAGE1] = config.stage1
    return specs | {STAGE2: None, STAGE3: config.stage3}


def _measure(network: nn.Module, loss: Callable[[], Tensor], spec: FitSpec) -> StepMemory:
    dtype = PRECISIONS[spec.precision]
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not torch.float32):
        return step_memory(network, loss)


def _needs(memory: StepMemory, images: int, free: int | None) -> str:
    parts = memory.parts(images, free)
    needed = f"a step of {images} images needs {_gib(memory.of(images))}"
    if parts == 1:
        return needed
    return f"{needed}, in {parts} micro-batches {_gib(memory.of(-(-images // parts)))}; {_gib(free or 0)} are free"


def _num_classes(config: RunConfig) -> int:
    return len(config.data.class_names() or range(_CLASSES))


def _bytes(network: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def _gib(amount: float) -> str:
    return f"{amount / 2**30:.1f} GiB" if amount >= 2**30 else f"{amount / 2**20:.0f} MiB"
