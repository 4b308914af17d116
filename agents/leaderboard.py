"""A fair comparison of algorithms: equal numbers of steps, several seeds, and confidence intervals.

Statistics over a few seeds are those of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (2021): interquartile means and percentile bootstrap intervals.

The comparison is about where policies look, so all of them share one frozen classifier. Accuracy
is measured on the test split; learning curves, and the number of steps until a policy is close to the oracle, on
the validation split.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms.registry import AGENTS
from agents.algorithms.stage2 import train_agent
from agents.evaluation.metrics import accuracy_by_step, pointing_game
from agents.evaluation.rollout import evaluate
from agents.policies.baselines import OraclePolicy, RandomPolicy
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.protocol import LocationPolicy
from agents.policies.weights import save_policy
from agents.runs.config import RunConfig
from agents.runs.config_files import load_config
from agents.runs.folder import start_folder
from agents.runs.images import RunImages
from agents.runs.log import Reporter
from agents.runs.run import load_configured, new_agent, policy_env
from agents.runs.stages import Stage, claimed
from classifiers.files import write_json, write_text
from classifiers.inference.frozen import FrozenClassifier, frozen
from gfnet_env.tasks import run_weights

CURVE_POINTS = 20
"""How often a policy is evaluated during its training."""

CLOSE = 0.9
"""Share of the oracle's gain over random at which a policy counts as close to it."""


_TRAININGS = Stage(
    "leaderboard",
    lambda config: tuple(type(config).model_fields),
    ("baseline_*.json", "*/seed_*/*"),
)


@dataclass(frozen=True)
class Result:
    """The result of one training.

    Attributes:
        agent: its name.
        seed: of everything random.
        accuracy: after each of the T steps, on the test split.
        pointing_game: share of test images whose first focus finds what decides the label; None without boxes.
        curve: (environment steps, share of the oracle's gain at t=2 on the validation split), along the training.
        env_steps: steps of the training: those asked for, rounded up to whole rollouts (ARS: whole populations).
        seconds: of training, evaluations left out.
    """

    agent: str
    seed: int
    accuracy: tuple[float, ...]
    pointing_game: float | None
    curve: tuple[tuple[int, float], ...]
    env_steps: int
    seconds: float

    @property
    def steps_to_close(self) -> int | None:
        """Environment steps after which `CLOSE` was reached; None if it never was."""
        return next((steps for steps, share in self.curve if share >= CLOSE), None)


@dataclass(frozen=True)
class Baseline:
    """Accuracy after each step of the policies that need no training.

    Attributes:
        random: of random places.
        oracle: of the oracle.
    """

    random: tuple[float, ...]
    oracle: tuple[float, ...]

    def share_of_gain(self, accuracy: float, step: int) -> float:
        """(accuracy - random) / (oracle - random) after a step, counted from 1."""
        random, oracle = self.random[step - 1], self.oracle[step - 1]
        return (accuracy - random) / max(oracle - random, 1e-9)


@dataclass(frozen=True)
class Leaderboard:
    """All results, and the baselines that they are compared with on the test split."""

    baseline: Baseline
    results: tuple[Result, ...]

    def of(self, agent: str) -> list[Result]:
        """An agent's results, by seed."""
        return [result for result in self.results if result.agent == agent]

    @property
    def agents(self) -> list[str]:
        """Names, the most accurate at t=2 first."""
        names = {result.agent for result in self.results}
        return sorted(names, key=lambda name: -interquartile_mean([r.accuracy[1] for r in self.of(name)]))


def run_leaderboard(
    names: Sequence[str],
    folder: Path,
    *,
    env_steps: int,
    seeds: int,
    changes: Sequence[str],
    reporter: Reporter,
) -> Leaderboard:
    """Trains every agent with every seed on the built-in task and writes `leaderboard.json` and `leaderboard.md`.

    Started again, it continues after the last finished training.

    Args:
        names: of `agents.algorithms.registry.AGENTS`.
        folder: holds the results, each in `NAME/seed_S`.
        env_steps: environment steps of each training.
        seeds: how many seeds, from 0.
        changes: `key=value` changes to the config `demo`.
        reporter: shows progress.

    Returns:
        The results.

    Raises:
        ValueError: if a name is unknown, a number is out of range, or the folder holds results of other settings.
        OSError: if the folder can't be written.
    """
    unknown = [name for name in names if name not in AGENTS]
    if unknown or seeds < 1 or env_steps < 1:
        raise ValueError(
            f"agents {unknown}, {seeds} seeds, {env_steps} steps; pass names of {', '.join(AGENTS)}, and 1 or more "
            "seeds and steps"
        )
    config = load_config("demo", [*changes, f"stage2.env_steps={env_steps}"])
    if config.stage2.evaluations:
        raise ValueError(
            f"stage2.evaluations={config.stage2.evaluations}; a leaderboard compares the last policies of "
            "trainings; leave it out"
        )
    if config.start is None or not config.oracle_grid:
        raise ValueError(
            f"start={config.start}, oracle_grid={config.oracle_grid}; a leaderboard needs trained networks "
            "(`pretrained`, or a run's folder) and the oracle"
        )
    with claimed(folder, config, (_TRAININGS,)):
        study = _Study(config, folder, reporter)
        results = []
        for name in names:
            for seed in range(seeds):
                reporter.note(f"{name}, seed {seed}")
                results.append(study.result(name, seed, changes))
        board = Leaderboard(study.baseline("test", config.classifier.num_glimpses), tuple(results))
        write_json(
            folder / "leaderboard.json", {"baseline": asdict(board.baseline), "results": [asdict(r) for r in results]}
        )
        write_text(folder / "leaderboard.md", markdown_table(board))
    return board


class _Study:
    """One classifier, its images, and trainings on them."""

    def __init__(self, config: RunConfig, folder: Path, reporter: Reporter) -> None:
        self.config, self.folder, self.reporter = config, folder, reporter
        assert config.start is not None
        networks, _ = load_configured(run_weights(start_folder(config.start)), config.classifier)
        self.classifier: FrozenClassifier = frozen(networks.to(config.device))
        self.images = RunImages(config, reporter)

    def baseline(self, split: str, steps: int) -> Baseline:
        """The baselines on a split, computed once."""
        path = self.folder / f"baseline_{split}.json"
        if not path.is_file():
            policies: dict[str, LocationPolicy] = {
                "random": RandomPolicy(0),
                "oracle": OraclePolicy(self.classifier, self.config.oracle_grid),
            }
            write_json(path, {name: self._accuracy(policy, split, steps) for name, policy in policies.items()})
        return pydantic.TypeAdapter(Baseline).validate_json(path.read_bytes())

    def result(self, name: str, seed: int, changes: Sequence[str]) -> Result:
        """One training, unless it is done."""
        folder = self.folder / name / f"seed_{seed}"
        path = folder / "result.json"
        if path.is_file():
            return pydantic.TypeAdapter(Result).validate_json(path.read_bytes())
        config = load_config("demo", [*changes, f"stage2.agent={name}", f"seed={seed}"])
        spec, steps = config.stage2, self.config.stage2.env_steps
        env = policy_env(self.classifier, self.images("train"), spec)
        agent = new_agent(env, spec, seed)
        assert isinstance(agent, BaseAlgorithm)
        advance, baseline = self.reporter.track(f"{name}, seed {seed}"), self.baseline("val", 2)
        curve_points: list[tuple[int, float]] = []
        not_training = 0.0

        def on_rollout(done: int, total: int, figures: dict[str, float]) -> None:
            nonlocal not_training
            advance(done, total, {name: value for name, value in figures.items() if name == "reward"})
            if done * CURVE_POINTS // total > len(curve_points):
                started = time.monotonic()
                accuracy = self._accuracy(DeterministicPolicy(agent), "val", 2)[1]
                curve_points.append((done, baseline.share_of_gain(accuracy, 2)))
                not_training += time.monotonic() - started

        started = time.monotonic()
        with closing(env):
            train_agent(agent, steps, seed=seed, action_std_schedule=spec.action_std_schedule, on_rollout=on_rollout)
        seconds = time.monotonic() - started - not_training
        record = evaluate(self.classifier, self.images("test"), DeterministicPolicy(agent))
        found_first = pointing_game(record)
        result = Result(
            agent=name,
            seed=seed,
            accuracy=tuple(accuracy_by_step(record)),
            pointing_game=None if found_first is None else found_first[0],
            curve=tuple(curve_points),
            env_steps=agent.num_timesteps,
            seconds=seconds,
        )
        save_policy(folder / "policy.safetensors", agent)
        write_json(path, asdict(result))
        return result

    def _accuracy(self, policy: LocationPolicy, split: str, steps: int) -> list[float]:
        return accuracy_by_step(evaluate(self.classifier, self.images(split), policy, num_steps=steps))


def markdown_table(board: Leaderboard) -> str:
    """The leaderboard as a Markdown table: interquartile means over the seeds with 95 % intervals."""
    seeds, last = len(board.of(board.agents[0])), len(board.baseline.random)
    lines = [
        f"| agent ({seeds} seeds) | t=2 | t={last} | share of the oracle's gain at t=2 | first focus finds it "
        f"| steps to {CLOSE:.0%} of the gain | training |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in board.agents:
        results = board.of(name)
        shares = [board.baseline.share_of_gain(result.accuracy[1], 2) for result in results]
        found = [result.pointing_game for result in results if result.pointing_game is not None]
        cells = [
            name,
            _cell([result.accuracy[1] for result in results]),
            _cell([result.accuracy[-1] for result in results]),
            _cell(shares),
            _cell(found) if found else "",
            _steps_cell(results),
            f"{interquartile_mean([result.seconds for result in results]):.0f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for name, accuracy in (("*random*", board.baseline.random), ("*oracle*", board.baseline.oracle)):
        share = 0 if name == "*random*" else 1
        lines.append(f"| {name} | {accuracy[1]:.3f} | {accuracy[-1]:.3f} | {share} | | | |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    low, high = bootstrap_interval(values)
    return f"{interquartile_mean(values):.3f} [{low:.3f}, {high:.3f}]"


def _steps_cell(results: Sequence[Result]) -> str:
    reached = [result.steps_to_close for result in results if result.steps_to_close is not None]
    if not reached:
        return "not reached"
    steps = f"{np.median(reached):,.0f}"
    return steps if len(reached) == len(results) else f"{steps} ({len(reached)} of {len(results)} seeds)"


def leaderboard_curves(board: Leaderboard) -> dict[str, Any]:
    """Learning curves by agent: `steps`, `mean`, `low` and `high` of the share of the oracle's gain."""
    curves: dict[str, Any] = {}
    for name in board.agents:
        points = list(zip(*(result.curve for result in board.of(name)), strict=False))
        shares = [[share for _, share in column] for column in points]
        bounds = [bootstrap_interval(column) for column in shares]
        curves[name] = {
            "steps": [column[0][0] for column in points],
            "mean": [interquartile_mean(column) for column in shares],
            "low": [low for low, _ in bounds],
            "high": [high for _, high in bounds],
        }
    return curves


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean without the smallest and the largest quarter; the plain mean of fewer than four values."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    dropped = len(ordered) // 4
    return float(ordered[dropped : len(ordered) - dropped].mean())


def bootstrap_interval(values: Sequence[float], *, samples: int = 5000, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the interquartile mean.

    Args:
        values: one for each seed.
        samples: number of bootstrap samples.
        level: confidence level, in (0, 1).

    Returns:
        The lower and the upper end.
    """
    array = np.asarray(values, dtype=np.float64)
    drawn = np.sort(array[np.random.default_rng(0).integers(len(array), size=(samples, len(array)))], axis=1)
    dropped = len(array) // 4
    means = drawn[:, dropped : len(array) - dropped].mean(axis=1)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
