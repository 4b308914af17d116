"""A trained run, ready for use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.evaluation import agent_locator
from agents.run import RunFolder, load_policy, new_agent, policy_env
from agents.run_config import RunConfig
from classifiers.checkpoints import load_classifier, load_full_resolution
from classifiers.datasets.image_source import ArrayImages
from classifiers.frozen import FrozenClassifier, frozen
from classifiers.glance_focus import FullResolutionNetwork, Locator
from gfnet_env.tasks import SHIPPED_RUN, run_weights


@dataclass(frozen=True)
class LoadedRun:
    """The networks of a run.

    Attributes:
        config: what the run was made with.
        classifier: the frozen classifier of its last stage.
        agent: the agent of stage II.
        full_resolution: the baseline, where the run has one.
        class_names: names of the K classes, by label.
    """

    config: RunConfig
    classifier: FrozenClassifier
    agent: OnPolicyAlgorithm
    full_resolution: FullResolutionNetwork | None
    class_names: tuple[str, ...]

    @property
    def locator(self) -> Locator:
        """The deterministic policy."""
        return agent_locator(self.agent)


def load_networks(config: RunConfig, folder: Path) -> LoadedRun:
    """Loads what a run trained.

    Args:
        config: what it was made with.
        folder: where it lies.

    Returns:
        The networks.

    Raises:
        FileNotFoundError: if a stage is missing.
        ValueError: if a file is not what it should be.
    """
    files = RunFolder(folder)
    start = folder if config.start is None else SHIPPED_RUN if config.start == "shipped" else Path(config.start)
    path = run_weights(folder) if files.classifier(3).is_file() else run_weights(start)
    classifier, names = load_classifier(path)
    networks = frozen(classifier.to(config.device))
    agent = load_policy(
        files.policy, new_agent(policy_env(networks, _blank(config, names), config.stage2), config.stage2, config.seed)
    )
    baseline = RunFolder(start).full_resolution
    return LoadedRun(config, networks, agent, load_full_resolution(baseline) if baseline.is_file() else None, names)


def _blank(config: RunConfig, names: tuple[str, ...]) -> ArrayImages:
    """One black image: an agent is built for an environment's spaces, which no picture changes."""
    scenes = config.data.scenes
    height, width = (
        (scenes.height, scenes.width)
        if config.data.kind == "synthetic_signs"
        else (config.data.height, config.data.width)
    )
    return ArrayImages(
        torch.zeros(1, 3, height, width, dtype=torch.uint8),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, 4, dtype=torch.int64),
        names,
    )
