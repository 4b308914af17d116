"""Many trainings: one after another, in several processes, or as tasks of Ray."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Literal

import pydantic
import torch

from agents.algorithms.registry import AGENTS
from agents.leaderboard.rows import Row, append_row, check_version, read_rows
from agents.leaderboard.trainers import TRAINERS, load_trainer
from agents.leaderboard.training import TrainingSpec, finished_row, run_training
from agents.recognition.ray_recognizer import ray_session
from agents.runs.config_files import ConfigError
from agents.runs.log import Reporter
from agents.runs.stages import LockedError
from classifiers.checks import check_known
from classifiers.settings import error_sentence
from gfnet_env import __version__
from gfnet_env.registration import known_task

Engine = Literal["local", "ray"]
"""Where trainings run: processes of this machine, or tasks of a Ray cluster."""


_OF_RECIPES = {"options", "policy_options", "num_envs", "final_lr_fraction", "action_std_schedule"}
"""Settings that only agents of the registry have."""


def make_specs(
    agents: Sequence[str], tasks: Sequence[str], *, steps: int, seeds: int, changes: dict[str, Any]
) -> list[TrainingSpec]:
    """The trainings of every agent on every task with every seed.

    Args:
        agents: keys of `AGENTS` or `TRAINERS`, or `"module:function"`, see `agents.leaderboard.trainers`.
        tasks: ids of environments.
        steps: environment steps of each training.
        seeds: how many seeds, from 0.
        changes: dotted settings of `TrainingSpec`, such as `options.gamma`, and their values.

    Returns:
        The trainings; all seeds of an agent follow one another.

    Raises:
        ValueError: if a name is unknown, a number is out of range, or there is no such setting.
    """
    for task in tasks:
        known_task(task)
    for agent in agents:
        if ":" in agent:
            load_trainer(agent)
        else:
            check_known("agent", agent, [*AGENTS, *TRAINERS])
    if seeds < 1 or steps < 1:
        raise ValueError(f"{seeds} seeds, {steps} steps; pass 1 or more of each")
    tree: dict[str, Any] = {}
    for key, value in changes.items():
        group, _, name = key.partition(".")
        if name:
            tree.setdefault(group, {})[name] = value
        else:
            tree[group] = value
    of_agents = sorted(tree.keys() & _OF_RECIPES)
    if of_agents and not any(agent in AGENTS for agent in agents):
        raise ConfigError(f"--set {of_agents[0]} has no effect on {', '.join(agents)}; leave it out")
    others = {key: value for key, value in tree.items() if key not in _OF_RECIPES}
    try:
        return [
            TrainingSpec(
                **{**(tree if agent in AGENTS else others), "task": task, "agent": agent, "seed": seed, "steps": steps}
            )
            for task in tasks
            for agent in agents
            for seed in range(seeds)
        ]
    except pydantic.ValidationError as error:
        raise ConfigError(f"--set {error_sentence(error)}") from error


def run_leaderboard(
    specs: Sequence[TrainingSpec],
    out: Path,
    *,
    csv: Path | None = None,
    jobs: int = 1,
    engine: Engine = "local",
    imports: Sequence[str] = (),
    reporter: Reporter,
) -> list[Row]:
    """Runs trainings and appends their rows to a CSV file, each as soon as it is done.

    Finished trainings are not repeated. Several processes, also of several commands, may work in one folder: each
    training is locked by itself, and one that another process works on is left to it.

    Args:
        specs: the trainings.
        out: the leaderboard's folder.
        csv: file of the rows; None takes `out/rows.csv`.
        jobs: processes, each with one thread of PyTorch.
        engine: where they run.
        imports: modules that the processes import first, for agents and tasks of one's own.
        reporter: shows progress.

    Returns:
        The rows of the trainings that are done, in the order of `specs`.

    Raises:
        ValueError: if the file of the rows can't be read or holds rows of another version, or a training fails.
        ModuleNotFoundError: if Ray is asked for and not installed.
        OSError: if the folder can't be written.
    """
    csv = csv or out / "rows.csv"
    if csv.is_file():
        check_version(csv, read_rows(csv), __version__)
    rows = {spec.folder(out): done for spec in specs if (done := finished_row(spec, out)) is not None}
    for done in rows.values():
        append_row(csv, done)
    left = [spec for spec in specs if spec.folder(out) not in rows]
    for spec, row in _run(left, out, jobs, engine, imports, reporter):
        if isinstance(row, str):
            reporter.note(row)
            continue
        append_row(csv, row)
        rows[spec.folder(out)] = row
        reporter.note(
            f"{row.task} {row.label}, seed {row.seed}: "
            f"{row.value:.3f} after {row.steps_taken:,} steps, {row.cpu_seconds:.0f} CPU seconds"
        )
    return [rows[spec.folder(out)] for spec in specs if spec.folder(out) in rows]


_Outcome = tuple[TrainingSpec, Row | str]
"""A training and its row, or a sentence on why it was left out."""


def _run(
    specs: list[TrainingSpec], out: Path, jobs: int, engine: Engine, imports: Sequence[str], reporter: Reporter
) -> Iterator[_Outcome]:
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}; pass 1 or more")
    if engine == "ray":
        return _run_in_ray(specs, out, jobs, imports)
    if jobs > 1 and len(specs) > 1:
        return _run_in_processes(specs, out, jobs, imports)
    return ((spec, _try(spec, out, reporter)) for spec in specs)


def _try(spec: TrainingSpec, out: Path, reporter: Reporter) -> Row | str:
    try:
        return run_training(spec, out, reporter)
    except LockedError as error:
        return f"{spec.task} {spec.agent}, seed {spec.seed} is left out: {error}"


class _Silent:
    """A reporter of processes in the background."""

    def track(self, title: str) -> Callable[[int, int, dict[str, float]], None]:
        return lambda done, total, figures: None

    def note(self, text: str) -> None:
        pass


def _prepare(imports: Sequence[str], path: Sequence[str]) -> None:
    """Makes a new process able to run a training: one thread, and the user's own modules."""
    torch.set_num_threads(1)
    sys.path[:] = path
    for module in imports:
        importlib.import_module(module)


def _work(spec: dict[str, Any], out: Path) -> Row | str:
    return _try(TrainingSpec(**spec), out, _Silent())


def _run_in_processes(specs: list[TrainingSpec], out: Path, jobs: int, imports: Sequence[str]) -> Iterator[_Outcome]:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    pool = ProcessPoolExecutor(jobs, context, _prepare, (tuple(imports), tuple(sys.path)))
    try:
        waiting = {pool.submit(_work, spec.model_dump(), out): spec for spec in specs}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _run_in_ray(specs: list[TrainingSpec], out: Path, jobs: int, imports: Sequence[str]) -> Iterator[_Outcome]:
    """Trainings as tasks of the cluster that `ray.init` finds, or of this machine with as many processors as jobs."""
    path, folder = tuple(sys.path), out.absolute()

    def work(spec: dict[str, Any]) -> Row | str:
        _prepare(imports, path)
        return _work(spec, folder)

    with ray_session(jobs) as ray:
        task = ray.remote(num_cpus=1)(work)
        waiting = {task.remote(spec.model_dump()): spec for spec in specs}
        while waiting:
            (done, *_), _ = ray.wait(list(waiting))
            yield waiting.pop(done), ray.get(done)
