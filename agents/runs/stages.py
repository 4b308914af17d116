"""The stages of a run: what each one depends on, and the files that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.runs.config import RunConfig
from agents.runs.config_files import changed_settings, is_below


@dataclass(frozen=True)
class Stage:
    """A part of a run.

    Attributes:
        name: what messages call it.
        settings: dotted keys, of values or groups, that it depends on beside those of the stages before it.
        files: patterns of the files that it leaves, finished or not, below the run's folder.
    """

    name: str
    settings: Callable[[RunConfig], tuple[str, ...]]
    files: tuple[str, ...]

    def files_in(self, folder: Path) -> list[Path]:
        """Its files in a run's folder, sorted; none if it has not begun."""
        return sorted(path for pattern in self.files for path in folder.glob(pattern) if path.is_file())


def _training_images(config: RunConfig) -> tuple[str, ...]:
    return tuple(f"data.{name}" for name in type(config.data).model_fields if name not in ("num_val", "num_test"))


def _full_resolution(config: RunConfig) -> tuple[str, ...]:
    networks = ("classifier.encoder", "classifier.resize_mode", "initialization.weights")
    return (*_training_images(config), "seed", "start", *networks, "initialization.full_resolution")


def _low_resolution(config: RunConfig) -> tuple[str, ...]:
    side = "patch_size" if config.classifier.glance_size is None else "glance_size"
    return ("initialization.low_resolution", "initialization.low_resolution_sides", f"classifier.{side}")


def _stage1(config: RunConfig) -> tuple[str, ...]:
    return ("classifier", "start_stage", "initialization.networks_from", "objects", "stage1")


def _stage2(config: RunConfig) -> tuple[str, ...]:
    selection = ("data.num_val",) if config.stage2.evaluations else ()
    return ("stage2", "rounds", *selection, *(("stage3",) if config.rounds > 1 else ()))


STAGES = (
    Stage("full-resolution network", _full_resolution, ("initialization/full_resolution.*",)),
    Stage("low-resolution network", _low_resolution, ("initialization/low_resolution_*",)),
    Stage("stage I", _stage1, ("stage1/*",)),
    Stage("stage II", _stage2, ("stage2/*", "round_*/stage2/*")),
    Stage("stage III", lambda config: ("stage3",), ("stage3/*", "round_*/stage3/*")),
)
"""The stages in their order. The evaluation is not one of them: it may be repeated with other settings."""


def changed_setting(before: RunConfig, now: RunConfig, stages: Sequence[Stage]) -> str | None:
    """The first setting that differs between two configs and that one of the stages depends on.

    Args:
        before: a config.
        now: another one.
        stages: a stage after those before it.

    Returns:
        Its dotted key; None if the stages are the same in both.
    """
    keys = {key for config in (before, now) for stage in stages for key in stage.settings(config)}
    return next((key for key in changed_settings(before, now) if is_below(key, keys)), None)
