"""Settings that change nothing beside other settings: giving one is an error, not a silent no-op."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from agents.algorithms.registry import AGENTS
from agents.policies.baselines import FIXED_POLICIES
from agents.runs.config import RunConfig
from agents.runs.yaml_text import ConfigError

_FILE_SETTINGS = ("root", "height", "width", "crop_pct", "interpolation", "unreadable", "train_crop")
_SEQUENCE_SETTINGS = ("head_lr", "global_lr", "regularization")  # of f_C and the sequence loss, Eq. (6)
_TRAINING_SETTINGS = ("num_envs", "options", "policy_options", "evaluations", "final_lr_fraction", "compile")
_REWARD_SETTINGS = ("reward", "reward_samples", "exit_confidence", "step_cost", "price", "observe")


class Unused(NamedTuple):
    """A setting that changes nothing.

    Attributes:
        key: dotted, of a value or a group.
        because: what makes it useless.
        is_switched_off: whether another setting turned its part off; a config may then keep it for later.
    """

    key: str
    because: str
    is_switched_off: bool = False


def unused_settings(config: RunConfig) -> list[Unused]:
    """The settings that change nothing in a config, whether or not they were given."""
    return [*_unused_data(config), *_unused_training(config), *_unused_stage2(config)]


def _unused_data(config: RunConfig) -> Iterator[Unused]:
    if config.data.kind == "synthetic_signs":
        for name in _FILE_SETTINGS:
            yield Unused(f"data.{name}", "data.kind is synthetic_signs")
    else:
        yield Unused("data.scenes", f"data.kind is {config.data.kind}")


def _unused_training(config: RunConfig) -> Iterator[Unused]:
    if config.start is None:
        yield Unused("start_stage", "there is no start")
        if config.classifier.head != "gru":
            yield Unused("classifier.hidden_size", f"classifier.head is {config.classifier.head}")
        if config.classifier.head == "cascade":
            yield Unused("classifier.glance_logits", "a cascade's first prediction is always the encoder's")
    else:
        yield Unused("initialization", "the networks come from start")
        if config.start_stage > 1:
            yield Unused("stage1", "the networks come from start (start_stage: 1 trains them further)")
    for stage in ("full_resolution", "low_resolution"):
        for name in _SEQUENCE_SETTINGS:
            yield Unused(f"initialization.{stage}.{name}", "it belongs to stages I and III")
    if config.classifier.shares_encoder:
        for key in ("initialization.low_resolution", "initialization.low_resolution_sides"):
            yield Unused(key, "classifier.shares_encoder is set", is_switched_off=True)
        for key in ("stage1.global_lr", "stage3.global_lr"):
            yield Unused(key, "classifier.shares_encoder is set", is_switched_off=True)
    for stage in ("initialization.full_resolution", "initialization.low_resolution", "stage1", "stage3"):
        fit = _value(config, stage)
        if fit is not None and fit.epochs == 0:
            for field in dataclasses.fields(fit):
                if field.name != "epochs":
                    yield Unused(f"{stage}.{field.name}", f"{stage}.epochs is 0", is_switched_off=True)


def _unused_stage2(config: RunConfig) -> Iterator[Unused]:
    spec = config.stage2
    if spec.episode.reward == "increment":
        yield Unused("stage2.episode.reward_samples", "stage2.episode.reward is increment")
    if spec.agent in FIXED_POLICIES:
        because = f"stage2.agent is {spec.agent}, which learns nothing"
        for name in (*_TRAINING_SETTINGS, "env_steps", "action_std_schedule"):
            yield Unused(f"stage2.{name}", because, is_switched_off=True)
        for name in _REWARD_SETTINGS:
            yield Unused(f"stage2.episode.{name}", because, is_switched_off=True)
        return
    recipe = AGENTS[spec.agent]
    if not recipe.noise and not hasattr(recipe.policy, "set_std"):
        because = f"stage2.agent is {spec.agent}, which explores in its own way"
        yield Unused("stage2.action_std_schedule", because, is_switched_off=True)


def check_unused(config: RunConfig, changes: Sequence[str]) -> None:
    """Rejects settings that were given and change nothing.

    Args:
        config: the config, with the changes.
        changes: dotted keys that were changed on the command line.

    Raises:
        ConfigError: if a setting differs from its default and changes nothing; one that another setting switched off
            only if it is among the changes.
    """
    for unused in unused_settings(config):
        changed = [key for key in changes if key == unused.key or key.startswith(f"{unused.key}.")]
        if unused.is_switched_off and not changed:
            continue
        key = changed[0] if changed else unused.key
        if _is_given(config, unused.key):
            raise ConfigError(f"config {key} changes nothing: {unused.because}; leave it out")


def _is_given(config: RunConfig, key: str) -> bool:
    """Whether a setting differs from its default."""
    group, _, name = key.rpartition(".")
    holder = _value(config, group)
    if holder is None:
        return False
    field = next(field for field in dataclasses.fields(holder) if field.name == name)
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return bool(getattr(holder, name) != default)


def _value(config: RunConfig, key: str) -> Any:
    """A setting by its dotted key; None if its group is left out."""
    found: Any = config
    for name in filter(None, key.split(".")):
        found = getattr(found, name, None)
    return found
