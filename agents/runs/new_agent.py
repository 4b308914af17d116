"""An untrained agent for stage II, and the environment that it trains in."""

from __future__ import annotations

from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms.make_agent import make_agent
from agents.algorithms.registry import AGENTS
from agents.runs.agent_options import check_options
from agents.runs.config import Stage2Spec
from agents.runs.yaml_text import ConfigError
from classifiers.checks import first_line
from classifiers.data.prefetch import Prefetcher
from classifiers.data.shifted_copies import ShiftedCopies
from classifiers.data.source import ImageSource
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import GlanceFocusVectorEnv, Task


def policy_env(classifier: FrozenClassifier, source: ImageSource, spec: Stage2Spec) -> GlanceFocusVectorEnv:
    """Builds the environment that stage II trains in; image files are prefetched."""
    num_envs = spec.num_envs or AGENTS[spec.agent].num_envs
    if source.decodes_files:
        source = Prefetcher(source)
    if spec.shift_px:
        source = ShiftedCopies(source, spec.shift_px)
    return GlanceFocusVectorEnv(Task(source, classifier), spec.episode, num_envs=num_envs, autoreset_mode="SAME_STEP")


def new_agent(env: GlanceFocusVectorEnv, spec: Stage2Spec, seed: int) -> BaseAlgorithm:
    """Builds an untrained agent for stage II, its learning rate decaying linearly if it has one.

    Raises:
        ConfigError: if an option of the algorithm or of its policy is wrong.
    """
    check_options(spec)
    options = dict(spec.options)
    initial = {**AGENTS[spec.agent].defaults, **options}.get("learning_rate")
    if initial is not None:
        options["learning_rate"] = lambda left: (
            initial * (spec.final_lr_fraction + (1.0 - spec.final_lr_fraction) * left)
        )
    try:
        return make_agent(
            spec.agent,
            env,
            policy_kwargs=spec.policy_options,
            seed=seed,
            device=str(env.task.classifier.device),
            **options,
        )
    except Exception as error:  # whatever an option breaks inside somebody else's algorithm
        reason = first_line(error).rstrip(".: ")
        raise ConfigError(f"config stage2 does not work with agent={spec.agent}: {reason}") from error
