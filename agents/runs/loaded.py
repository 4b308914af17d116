"""A trained run, ready for use."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms.registry import AGENTS
from agents.policies.cost import policy_multiply_adds
from agents.policies.fixed_agents import FixedAgent
from agents.policies.protocol import DeterministicPolicy, agent_locator
from agents.policies.weights import load_policy
from agents.runs.config import RunConfig
from agents.runs.config_files import load_run_config
from agents.runs.folder import RunFolder, classifier_file, start_folder
from agents.runs.new_agent import new_agent, policy_env
from classifiers.checkpoints import load_classifier, load_full_resolution
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import Locator


@dataclass(frozen=True)
class LoadedRun:
    """The networks of a run.

    Attributes:
        config: what the run was made with.
        classifier: the frozen classifier of its last stage: `glance(images)`, `focus(patches, hidden)`.
        agent: the agent of stage II: an SB3 algorithm, or one that needs no training.
        full_resolution: the baseline, where the run has one.
        class_names: names of the K classes, by label.
    """

    config: RunConfig
    classifier: FrozenClassifier
    agent: BaseAlgorithm | FixedAgent
    full_resolution: FullResolutionNetwork | None
    class_names: tuple[str, ...]

    @property
    def num_glimpses(self) -> int:
        """Steps T of an episode, the glance counted."""
        return self.config.stage2.episode.num_glimpses or self.classifier.spec.num_glimpses

    @property
    def policy_cost(self) -> int:
        """Multiply-adds of one decision for one image."""
        return policy_multiply_adds(self.agent)

    @property
    def locator(self) -> Locator:
        """The deterministic policy, as `evaluate` and stage III take it."""
        return agent_locator(self.agent)

    @property
    def policy(self) -> DeterministicPolicy:
        """The deterministic policy as a function of tensors.

        Raises:
            ValueError: if the run's agent is none that was trained.
        """
        if isinstance(self.agent, FixedAgent):
            raise ValueError(f"the run's agent is {self.agent.name!r}, which has no network; take `locator`")
        return DeterministicPolicy(self.agent)


def load_run(folder: Path | str) -> LoadedRun:
    """Loads a run's networks; executes no code.

    Args:
        folder: of a `gfnet train` or a `gfnet import-checkpoint`.

    Returns:
        The networks.

    Raises:
        FileNotFoundError: if a stage is missing.
        ValueError: if a file is not what it should be.
    """
    return load_networks(load_run_config(Path(folder)), Path(folder))


def load_networks(config: RunConfig, folder: Path) -> LoadedRun:
    """Loads what a run trained; see `load_run`.

    Args:
        config: the run's.
        folder: the run's.

    Returns:
        The networks.
    """
    files = RunFolder(folder)
    classifier, names = load_classifier(classifier_file(config, folder))
    networks = frozen(config.stage2.episode.sized(classifier).to(config.device))
    agent = blank_agent(config, networks, names)
    if not isinstance(agent, FixedAgent):
        agent = load_policy(files.policy, agent)
    baseline = files.full_resolution if config.start is None else RunFolder(start_folder(config.start)).full_resolution
    return LoadedRun(config, networks, agent, load_full_resolution(baseline) if baseline.is_file() else None, names)


def blank_agent(config: RunConfig, classifier: FrozenClassifier, names: tuple[str, ...]) -> BaseAlgorithm | FixedAgent:
    """An untrained agent of a run, for its weights to be loaded into: only the environment's spaces matter to it."""
    options = {key: value for key, value in config.stage2.options.items() if key not in ("n_steps", "batch_size")}
    if config.stage2.agent in AGENTS and AGENTS[config.stage2.agent].updates_per_step:
        options["buffer_size"] = 1
    spec = dataclasses.replace(config.stage2, num_envs=1, options=options)
    return new_agent(policy_env(classifier, black_image(config, names), spec), spec, config.seed)


def black_image(config: RunConfig, names: tuple[str, ...]) -> ArrayImages:
    """One black image of the size of a run's."""
    return ArrayImages(
        torch.zeros(1, 3, *config.data.image_size, dtype=torch.uint8),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, 4, dtype=torch.int64),
        names,
    )
