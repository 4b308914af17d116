"""What a run needs, tried out before anything trains, so that a wrong option costs seconds, not hours.

Pretrained weights are loaded, and stage II runs on one black image.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

from agents.algorithms.registry import AGENTS
from agents.algorithms.stage2 import train_agent
from agents.policies.baselines import FIXED_POLICIES
from agents.runs.agent_options import check_options
from agents.runs.config import RunConfig, Stage2Spec
from agents.runs.folder import start_folder
from agents.runs.loaded import as_configured, black_image
from agents.runs.new_agent import new_agent, policy_env
from agents.runs.yaml_text import ConfigError, shortened
from classifiers.checkpoints import load_classifier
from classifiers.data.source import nameless_classes
from classifiers.devices import usable_device
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import build_encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from gfnet_env import EpisodeSpec, Task
from gfnet_env.tasks import run_weights

_ENVS = 2
_CLASSES = 10  # where the data are not open yet; only the shapes of observations could depend on it


def check_weights(config: RunConfig) -> None:
    """Loads the pretrained weights that the encoders start from, if any, as the training will.

    Args:
        config: the run's.

    Raises:
        ConfigError: if there are no such weights, or they don't fit the encoder.
        FileNotFoundError: if they are a file that does not exist.
        ConnectionError: if they can't be downloaded.
    """
    if config.initialization is None or config.initialization.weights is None:
        return
    try:
        build_encoder(config.classifier.encoder, _CLASSES, config.initialization.weights)
    except ValueError as error:
        raise ConfigError(f"config initialization.weights: {error}") from error


def check_stage2(config: RunConfig) -> None:
    """Builds stage II's agent and has it take one small rollout and update.

    Args:
        config: the run's.

    Raises:
        ConfigError: if a setting of stage II or of the networks' sizes does not work; says which.
        FileNotFoundError: if the run to start from has no networks.
    """
    check_options(config.stage2)
    if config.start is None:
        classifier, names = GlanceFocusClassifier(config.classifier, _CLASSES).eval(), nameless_classes(_CLASSES)
    else:
        path = run_weights(start_folder(config.start))
        classifier, names = load_classifier(path)
        classifier = as_configured(classifier, config.classifier, path)
    try:
        networks = frozen(classifier.to(usable_device(config.device)))
        Task(black_image(config, names), networks)
    except ValueError as error:
        raise ConfigError(f"config {error}") from error
    failure = _failure(config, networks, names)
    if failure is None:
        return
    for key, value, without in _alternatives(config.stage2):
        if _failure(dataclasses.replace(config, stage2=without), networks, names) is None:
            raise ConfigError(
                f"config stage2.{key}={shortened(repr(value))} does not work: {_in_short(failure)}"
            ) from failure
    raise ConfigError(
        f"config stage2 does not work with agent={config.stage2.agent}: {_in_short(failure)}"
    ) from failure


def _failure(config: RunConfig, networks: FrozenClassifier, names: tuple[str, ...]) -> Exception | None:
    """What goes wrong when stage II is tried out; None if nothing does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _try_out(config, networks, names)
    except ConfigError as error:  # from `new_agent`, which names no key
        cause = error.__cause__
        return cause if isinstance(cause, Exception) else error
    except Exception as error:  # whatever an option breaks inside somebody else's algorithm
        return error
    return None


def _try_out(config: RunConfig, networks: FrozenClassifier, names: tuple[str, ...]) -> None:
    black = black_image(config, names)
    if config.stage2.agent in FIXED_POLICIES:
        return
    new_agent(policy_env(networks, black, config.stage2), config.stage2, config.seed)  # at full size, if memory allows
    steps = networks.spec.num_glimpses - 1
    spec = _small(config.stage2, steps)
    env = policy_env(networks, black, spec)
    agent = new_agent(env, spec, config.seed)
    train_agent(agent, _ENVS * steps, seed=config.seed, action_std_schedule=spec.action_std_schedule)
    env.close()


def _small(spec: Stage2Spec, steps: int) -> Stage2Spec:
    """The same stage II on two environments, its rollout, batch and replay buffer as small as can be."""
    recipe = AGENTS[spec.agent]
    caps = {
        **({"n_steps": steps} if recipe.rollout else {}),
        **{"batch_size": _ENVS * steps, "buffer_size": 64, "learning_starts": 0, "train_freq": 1, "gradient_steps": 1},
        "n_eval_episodes": _ENVS,
    }
    batch = {"batch_size": _ENVS * steps} if recipe.batches else {}
    has = {"n_steps": steps, **batch, **recipe.defaults, **spec.options}
    options = {**spec.options}
    for name, cap in caps.items():
        value = has.get(name)
        if isinstance(value, int):
            options[name] = min(value, cap)
    return dataclasses.replace(spec, num_envs=_ENVS, options=options)


def _alternatives(spec: Stage2Spec) -> Iterator[tuple[str, Any, Stage2Spec]]:
    """Every setting that differs from its default, with the same stage II without it."""
    for group in ("options", "policy_options"):
        for key, value, without in _leaves(getattr(spec, group)):
            changes: dict[str, Any] = {group: without}
            yield f"{group}.{key}", value, dataclasses.replace(spec, **changes)
    if spec.num_envs is not None:
        yield "num_envs", spec.num_envs, dataclasses.replace(spec, num_envs=None)
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
    return lines[0].rstrip(".: ") if lines else type(error).__name__
