"""Settings that have no effect next to other settings: giving one is an error, not a silent no-op."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agents.algorithms.registry import AGENTS
from agents.policies.baselines import FIXED_POLICIES
from agents.runs.config import DataSpec, RunConfig, Stage2Spec
from agents.runs.settings import changed_settings, is_below, is_default, setting
from agents.runs.yaml_text import ConfigError
from classifiers.data.registry import COLLECTIONS, settings_of
from classifiers.networks.spec import ADJUSTABLE
from classifiers.training.fit_spec import FitSpec
from gfnet_env import EpisodeSpec

_SEQUENCE_SETTINGS = ("head_lr", "global_lr", "regularization", "frozen")  # of the classifier's parts and Eq. (6)

EVALUATION_SETTINGS = (
    *("data", "device", "seed", "oracle_grid", "fixed_place_grid"),
    *(f"classifier.{name}" for name in ADJUSTABLE),
)
"""The settings, values or groups, that evaluations and pictures of a trained run depend on."""


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
    own = settings_of(config.data.kind)
    of_some_kind = dict.fromkeys(name for kind in COLLECTIONS for name in settings_of(kind))
    for name in filter(of_some_kind.__contains__, _fields(DataSpec)):
        if name not in own:
            yield Unused(f"data.{name}", f"data.kind is {config.data.kind}")


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
    if config.initialization is not None and config.initialization.networks_from == "weights":
        for key in ("initialization.low_resolution", "initialization.low_resolution_sides"):
            yield Unused(key, "initialization.networks_from is weights", is_switched_off=True)
    if config.objects is None:
        yield Unused("stage1.object_share", "there are no objects")
    yield Unused("stage3.object_share", "it belongs to stage I")
    if config.classifier.shares_encoder:
        for key in ("initialization.low_resolution", "initialization.low_resolution_sides"):
            yield Unused(key, "classifier.shares_encoder is set", is_switched_off=True)
        for key in ("stage1.global_lr", "stage3.global_lr"):
            yield Unused(key, "classifier.shares_encoder is set", is_switched_off=True)
    for stage in ("stage1", "stage3"):
        for part, name in (("global_encoder", "global_lr"), ("head", "head_lr")):
            if part in (setting(config, f"{stage}.frozen") or ()):
                yield Unused(f"{stage}.{name}", f"{stage}.frozen names {part}", is_switched_off=True)
    for stage in ("initialization.full_resolution", "initialization.low_resolution", "stage1", "stage3"):
        fit = setting(config, stage)
        if fit is not None and fit.epochs == 0:
            for name in _fields(FitSpec, but=("epochs",)):
                yield Unused(f"{stage}.{name}", f"{stage}.epochs is 0", is_switched_off=True)


def _unused_stage2(config: RunConfig) -> Iterator[Unused]:
    spec = config.stage2
    if spec.episode.reward == "increment":
        yield Unused("stage2.episode.reward_samples", "stage2.episode.reward is increment")
    if spec.agent in FIXED_POLICIES:
        because = f"stage2.agent is {spec.agent}, which learns nothing"
        names = [*_fields(Stage2Spec, but=("agent", "episode")), *(f"episode.{name}" for name in _fields(EpisodeSpec))]
        for name in names:
            yield Unused(f"stage2.{name}", because, is_switched_off=True)
        return
    recipe = AGENTS[spec.agent]
    if not recipe.noise and not hasattr(recipe.policy, "set_std"):
        because = f"stage2.agent is {spec.agent}, which explores in its own way"
        yield Unused("stage2.action_std_schedule", because, is_switched_off=True)


def _fields(spec: type, but: Sequence[str] = ()) -> list[str]:
    return [field.name for field in dataclasses.fields(spec) if field.name not in but]


def check_unused(config: RunConfig, changes: Sequence[str]) -> None:
    """Rejects settings of a new run that were given and change nothing.

    Args:
        config: the config, with the changes.
        changes: dotted keys that were changed on the command line.

    Raises:
        ConfigError: if a setting differs from its default and changes nothing; one that another setting switched off
            only if it is among the changes.
    """
    for unused in unused_settings(config):
        changed = [key for key in changes if is_below(key, [unused.key])]
        if is_default(config, unused.key) or (unused.is_switched_off and not changed):
            continue
        raise ConfigError(f"config {[*changed, unused.key][0]} changes nothing: {unused.because}; leave it out")


def check_evaluation_changes(trained: RunConfig, changed: RunConfig) -> None:
    """Rejects changes to the config of a trained run that only matter for training.

    Args:
        trained: the run's config.
        changed: the same with changes.

    Raises:
        ConfigError: with the first such setting, or if the policy does not know so many patch sizes.
    """
    before, now = (len(config.classifier.patch_sizes) for config in (trained, changed))
    if before != now and changed.stage2.agent not in FIXED_POLICIES:
        raise ConfigError(
            f"config classifier.patch_sizes: the run's policy knows {_sizes(before)}, not {_sizes(now)}; pass as many, "
            "or train a policy"
        )
    for key in changed_settings(trained, changed):
        if not is_below(key, EVALUATION_SETTINGS):
            raise ConfigError(
                f"config {key} changes nothing about a run that is trained; change one of "
                f"{', '.join(EVALUATION_SETTINGS)}"
            )


def _sizes(count: int) -> str:
    return "one patch size" if count == 1 else f"{count} patch sizes"
