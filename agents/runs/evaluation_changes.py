"""What may be changed about a run that is trained: the images, the device and the baselines it is evaluated with."""

from __future__ import annotations

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
    for key in changed_settings(trained, changed):
        if not any(key == free or key.startswith(f"{free}.") for free in FREE_SETTINGS):
            raise ConfigError(
                f"config {key} changes nothing about a run that is trained; change one of {', '.join(FREE_SETTINGS)}"
            )
