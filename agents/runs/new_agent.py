"""An untrained agent for stage II, and the environment that it trains in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms.make_agent import make_agent
from agents.algorithms.registry import AGENTS
from agents.policies.extractor import GlimpseExtractor
from agents.runs.config import Stage2Spec
from agents.runs.yaml_text import ConfigError
from classifiers.checks import did_you_mean
from classifiers.data.augmentation import ShiftedCopies
from classifiers.data.loading import Prefetcher
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
        ConfigError: if the algorithm, its policy or the extractor has no such option.
    """
    recipe, options = AGENTS[spec.agent], dict(spec.options)
    _check_names("options", recipe.algorithm, spec.options, ("rollout", "batches"))
    _check_names("policy_options", recipe.policy, spec.policy_options, ("extractor",))
    _check_names("policy_options.extractor", GlimpseExtractor, spec.policy_options.get("extractor"))
    initial = {**recipe.defaults, **options}.get("learning_rate")
    if initial is not None:
        options["learning_rate"] = lambda left: (
            initial * (spec.final_lr_fraction + (1.0 - spec.final_lr_fraction) * left)
        )
    return make_agent(
        spec.agent,
        env,
        policy_kwargs=spec.policy_options,
        seed=seed,
        device=str(env.task.classifier.device),
        **options,
    )


def _check_names(group: str, called: Callable[..., Any] | str, options: Any, ours: tuple[str, ...] = ()) -> None:
    """Rejects an option that nothing takes, with the near miss; what a class passes on is not known here."""
    if not isinstance(options, dict) or isinstance(called, str):
        return
    parameters = inspect.signature(called).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [*parameters, *ours]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known, f"stage2.{group}.")
            raise ConfigError(f"config stage2.{group}.{name} is unknown: {hint}known are {', '.join(known)}")
