"""Stage II tried out on one black image before anything trains, so that a wrong option costs seconds, not hours."""

from __future__ import annotations

import dataclasses
import inspect
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pydantic

from agents.algorithms.registry import AGENTS
from agents.algorithms.stage2 import train_agent
from agents.policies.extractor import GlimpseExtractor
from agents.policies.fixed_agents import FixedAgent
from agents.runs.config import RunConfig, Stage2Spec
from agents.runs.folder import start_folder
from agents.runs.loaded import black_image
from agents.runs.new_agent import new_agent, policy_env
from agents.runs.yaml_text import ConfigError, shortened
from classifiers.checkpoints import load_classifier
from classifiers.data.source import nameless_classes
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.glance_focus import GlanceFocusClassifier
from gfnet_env import EpisodeSpec
from gfnet_env.tasks import run_weights

_ENVS = 2
_CLASSES = 10  # where the data are not open yet; only the shapes of observations could depend on it

_LEAST: dict[str, float] = {
    "n_steps": 1,
    "n_epochs": 1,
    "batch_size": 1,
    "buffer_size": 1,
    "learning_starts": 0,
    "vf_coef": 0,
}
_LEAST |= {"n_delta": 1, "n_top": 1, "n_eval_episodes": 1, "target_update_interval": 1, "policy_delay": 1}
_LEAST |= {"units": 1, "conv_channels": 0, "conv_kernel": 1, "first_units": 0, "attention_maps": 0, "std": 1e-6}
_SHARES = ("gamma", "gae_lambda", "tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")
_CAPS = {"batch_size": 16, "buffer_size": 64, "learning_starts": 0, "train_freq": 1, "gradient_steps": 1}
_CAPS |= {"n_eval_episodes": 2}


def check_stage2(config: RunConfig) -> None:
    """Builds stage II's agent and has it take one small rollout and update.

    Args:
        config: the run's.

    Raises:
        ConfigError: if a setting of stage II or of the networks' sizes does not work; says which.
        FileNotFoundError: if the run to start from has no networks.
    """
    _check_options(config.stage2)
    if config.start is None:
        classifier, names = GlanceFocusClassifier(config.classifier, _CLASSES).eval(), nameless_classes(_CLASSES)
    else:
        classifier, names = load_classifier(run_weights(start_folder(config.start)))
    networks = frozen(classifier.to(config.device))
    error = _failure(config, networks, names)
    if error is None:
        return
    for key, value, without in _alternatives(config.stage2):
        if _failure(dataclasses.replace(config, stage2=without), networks, names) is None:
            raise ConfigError(
                f"config stage2.{key}={shortened(repr(value))} does not work: {_in_short(error)}"
            ) from error
    raise ConfigError(f"config stage2 does not work with agent={config.stage2.agent}: {_in_short(error)}") from error


def _failure(config: RunConfig, networks: FrozenClassifier, names: tuple[str, ...]) -> Exception | None:
    """What goes wrong when stage II is tried out; None if nothing does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _try_out(config, networks, names)
    except Exception as error:  # whatever an option breaks inside somebody else's algorithm
        return error
    return None


def _try_out(config: RunConfig, networks: FrozenClassifier, names: tuple[str, ...]) -> None:
    steps = (config.stage2.episode.num_glimpses or networks.spec.num_glimpses) - 1
    spec = _small(config.stage2, steps)
    env = policy_env(networks, black_image(config, names), spec)
    agent = new_agent(env, spec, config.seed)
    if not isinstance(agent, FixedAgent):
        train_agent(agent, _ENVS * steps, seed=config.seed, action_std_schedule=spec.action_std_schedule)
    env.close()


def _small(spec: Stage2Spec, steps: int) -> Stage2Spec:
    """The same stage II on two environments, its rollout, batch and replay buffer as small as can be."""
    if spec.agent not in AGENTS:
        return dataclasses.replace(spec, num_envs=_ENVS)
    recipe = AGENTS[spec.agent]
    has = {**recipe.defaults, **spec.options}
    options = dict(spec.options)
    for name, cap in (("n_steps", steps), *_CAPS.items()):
        value = has.get(name)
        if isinstance(value, int) and value > cap:
            options[name] = cap
    if recipe.batches:
        options.pop("batch_size", None)
    return dataclasses.replace(spec, num_envs=_ENVS, options=options)


def _check_options(spec: Stage2Spec) -> None:
    """Checks the types that an algorithm, its policy and its extractor declare, and ranges that all of them share."""
    if spec.agent not in AGENTS:
        return
    recipe = AGENTS[spec.agent]
    rollout = (spec.options.get("n_steps") or 2) * (spec.num_envs or recipe.num_envs)
    _check_arguments("stage2.options", recipe.algorithm, spec.options)
    if recipe.rollout and rollout < 2:
        raise ConfigError(f"config stage2.options.n_steps=1 with num_envs={spec.num_envs}; pass 2 steps or more in all")
    _check_arguments("stage2.policy_options", recipe.policy, spec.policy_options)
    extractor = spec.policy_options.get("extractor")
    if isinstance(extractor, dict):
        _check_arguments("stage2.policy_options.extractor", GlimpseExtractor, extractor)


def _check_arguments(where: str, called: Any, arguments: dict[str, Any]) -> None:
    hints = _declared_types(called)
    for name, value in arguments.items():
        shown = f"config {where}.{name}={shortened(repr(value))}"
        if name in hints and not isinstance(value, list | dict):  # a YAML list may be a tuple
            try:
                pydantic.TypeAdapter(hints[name], config={"arbitrary_types_allowed": True}).validate_python(
                    value, strict=True
                )
            except pydantic.ValidationError as error:
                raise ConfigError(f"{shown}: {error.errors()[0]['msg']}") from error
        if isinstance(value, int | float) and not isinstance(value, bool):
            if name in _SHARES and not 0 <= value <= 1:
                raise ConfigError(f"{shown}; pass a number in [0, 1]")
            if value < _LEAST.get(name, value):
                raise ConfigError(f"{shown}; pass {_LEAST[name]} or more")


def _declared_types(called: Any) -> dict[str, Any]:
    function: Callable[..., Any] = called.__init__ if inspect.isclass(called) else called
    try:
        return typing.get_type_hints(function)
    except (TypeError, NameError):  # a name instead of a class, or types that exist for type checkers alone
        return {}


def _alternatives(spec: Stage2Spec) -> Iterator[tuple[str, Any, Stage2Spec]]:
    """Every setting that differs from its default, with the same stage II without it."""
    for group in ("options", "policy_options"):
        for key, value, without in _leaves(getattr(spec, group)):
            changes: dict[str, Any] = {group: without}
            yield f"{group}.{key}", value, dataclasses.replace(spec, **changes)
    for field in dataclasses.fields(EpisodeSpec):
        value = getattr(spec.episode, field.name)
        if value != field.default:
            changes = {field.name: field.default}
            episode = dataclasses.replace(spec.episode, **changes)
            yield f"episode.{field.name}", value, dataclasses.replace(spec, episode=episode)


def _leaves(tree: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    for name, value in tree.items():
        others = {key: other for key, other in tree.items() if key != name}
        if isinstance(value, dict):
            for key, inner, without in _leaves(value):
                yield f"{name}.{key}", inner, {**others, name: without}
        yield name, value, others


def _in_short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
