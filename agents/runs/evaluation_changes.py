"""What may be changed about a run that is trained: the images, the device and the baselines it is evaluated with."""

from __future__ import annotations

from agents.policies.baselines import FIXED_POLICIES
from agents.runs.config import RunConfig
from agents.runs.stages import changed_settings
from agents.runs.yaml_text import ConfigError
from classifiers.networks.spec import ADJUSTABLE

_FREE = ("data", "device", "seed", "oracle_grid")
FREE_SETTINGS = (*_FREE, *(f"classifier.{name}" for name in ADJUSTABLE))
"""The settings, values or groups, that an evaluation or a picture depends on."""


def check_evaluation_changes(trained: RunConfig, changed: RunConfig) -> None:
    """Checks that changes to a trained run's config have an effect.

    Args:
        trained: the run's config.
        changed: the same with changes.

    Raises:
        ConfigError: if a changed setting only matters for training.
    """
    before, now = (len(config.classifier.patch_sizes) for config in (trained, changed))
    if before != now and changed.stage2.agent not in FIXED_POLICIES:
        raise ConfigError(
            f"config classifier.patch_sizes: the run's policy knows {_sizes(before)}, not {_sizes(now)}; pass as many, "
            "or train a policy"
        )
    for key in changed_settings(trained, changed):
        if not any(key == free or key.startswith(f"{free}.") for free in FREE_SETTINGS):
            raise ConfigError(
                f"config {key} changes nothing about a run that is trained; change one of {', '.join(FREE_SETTINGS)}"
            )


def _sizes(count: int) -> str:
    return "one patch size" if count == 1 else f"{count} patch sizes"
