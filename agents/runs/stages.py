"""A run's stages, and who may work on them: one process at a time, with settings that match the stages begun so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from agents.runs.config import RunConfig
from agents.runs.config_files import (
    ConfigError,
    changed_settings,
    dump_config,
    flat_settings,
    is_below,
    load_run_config,
)
from agents.runs.folder import RunFolder, made_by, origin_comment
from classifiers.checks import shortened
from classifiers.files import remove_temporary, write_text
from classifiers.training.distributed import is_first_process

LOCK = ".lock"
"""Name of the file that is locked while a process works on a folder."""


class LockedError(ConfigError):
    """Another process works on a folder."""


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
    trainings = ("initialization.full_resolution", "initialization.refit_statistics")
    return (*_training_images(config), "seed", "start", *networks, *trainings)


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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from working on a folder for as long as the block runs.

    The operating system frees the lock when its process ends, however it ends. Under `torchrun`, the first process
    holds it for all. A folder that was made for nothing is removed again.

    Args:
        folder: of a run or a study; made if need be.

    Raises:
        LockedError: if another process holds it.
        OSError: if the folder can't be written.
    """
    if not is_first_process():
        yield
        return
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file
                    (folder / LOCK).unlink()
    except Timeout as error:
        raise LockedError(
            f"{folder} is locked by another process; wait until it is done, or pass another folder"
        ) from error
    finally:
        if is_new:
            with suppress(OSError):  # it is no longer empty
                folder.rmdir()


@contextmanager
def claimed(folder: Path, config: RunConfig, stages: Sequence[Stage] = STAGES) -> Iterator[None]:
    """Locks a folder and writes the config of what is done there, for as long as the block runs.

    A run that fails before it has written anything else leaves no folder behind.

    Args:
        folder: of a run or a study.
        config: its settings.
        stages: what it consists of.

    Raises:
        ConfigError: if another process is at work there, or a stage has begun with other settings.
        OSError: if the folder can't be written.
    """
    path = RunFolder(folder).config
    is_new = not path.is_file()
    with locked(folder):
        if is_first_process():
            remove_temporary(folder, recursive=True)
            check_settings(folder, config, stages)
            if is_new or load_run_config(folder) != config:
                write_text(path, origin_comment(made_by(config.device)) + dump_config(config))
        try:
            yield
        except Exception:
            if is_new and is_first_process() and {*folder.iterdir()} <= {path, folder / LOCK}:
                path.unlink(missing_ok=True)
            raise


def check_settings(folder: Path, config: RunConfig, stages: Sequence[Stage] = STAGES) -> None:
    """Checks that the stages of a folder that have begun depend on nothing that a config changes.

    Args:
        folder: of a run or a study; may be new.
        config: what is to be run there.
        stages: what it consists of.

    Raises:
        ConfigError: if a stage has begun with another setting; says which.
    """
    if not RunFolder(folder).config.is_file():
        return
    before = load_run_config(folder)
    for index, stage in enumerate(stages, 1):
        key = changed_setting(before, config, stages[:index]) if stage.files_in(folder) else None
        if key is not None:
            old, new = (shortened(str(flat_settings(each).get(key))) for each in (before, config))
            raise ConfigError(
                f"{folder} holds a run whose {stage.name} has begun with {key}={old}, not {new}; pass another --out, "
                "or the setting that it began with"
            )
