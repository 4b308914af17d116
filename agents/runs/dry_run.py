"""What a run needs, tried out before anything trains, so that a wrong option costs seconds, not hours.

Pretrained weights are loaded, and stage II runs on one black image.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pydantic

from agents.algorithms.registry import AGENTS
from agents.algorithms.stage2 import train_agent
from agents.policies.baselines import FIXED_POLICIES
from agents.runs.agent_options import check_options
from agents.runs.config import RunConfig, Stage2Spec
from agents.runs.folder import start_folder
from agents.runs.loaded import black_image, load_configured
from agents.runs.new_agent import new_agent, policy_env
from agents.runs.settings import setting
from agents.runs.yaml_text import ConfigError
from classifiers.checks import first_line, shortened
from classifiers.data.source import nameless_classes
from classifiers.devices import usable_device
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import build_encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.pretrained import imagenet_ids
from gfnet_env import Task
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
    """
    if config.initialization is not None and config.initialization.weights is not None:
        with _naming("initialization.weights"):
            build_encoder(config.classifier.encoder, _CLASSES, config.initialization.weights)
    if config.objects is not None:
        with _naming("objects.weights"):
            build_encoder(
                config.objects.encoder, len(imagenet_ids()), config.objects.weights, may_replace_classifier=False
            )


@contextmanager
def _naming(key: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"config {key}: {error}") from error


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
        classifier, names = load_configured(run_weights(start_folder(config.start)), config.classifier)
    try:
        networks = frozen(classifier.to(usable_device(config.device)))
        Task(black_image(config, names), networks)
    except ValueError as error:
        raise ConfigError(f"config {error}") from error
    failure = _failure(config, networks, names)
    if failure is None:
        return
    reason = first_line(failure).rstrip(".: ")
    for key, value, without in _alternatives(config.stage2):
        if _failure(dataclasses.replace(config, stage2=without), networks, names) is None:
            raise ConfigError(f"config stage2.{key}={shortened(repr(value))} does not work: {reason}") from failure
    raise ConfigError(f"config stage2 does not work with agent={config.stage2.agent}: {reason}") from failure


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
    tree = dataclasses.asdict(spec)
    for key in _keys({group: tree[group] for group in ("options", "policy_options", "num_envs", "episode")}):
        without = pydantic.TypeAdapter(Stage2Spec).validate_python(_without(tree, key.split(".")))
        if without != spec:
            yield key, setting(spec, key), without


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")
        if prefix or not isinstance(value, dict):
            yield f"{prefix}{name}"


def _without(tree: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    first, *rest = path
    others = {name: value for name, value in tree.items() if name != first}
    return {**others, first: _without(tree[first], rest)} if rest else others
