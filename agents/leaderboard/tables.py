"""The tables and curves of a leaderboard, computed from its rows."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agents.leaderboard.rows import Row
from agents.leaderboard.statistics import (
    Scores,
    estimate,
    interquartile_mean,
    paired_difference,
    performance_profile,
    probability_of_improvement,
)

BUDGETS = (10_000, 30_000, 100_000)
"""Environment steps after which agents are compared, at evaluations up to a tenth later: they follow whole rollouts."""

_THRESHOLDS = np.linspace(0.0, 1.2, 61)


@dataclass(frozen=True)
class Board:
    """Rows, of each agent on each task those of its longest trainings.

    Attributes:
        rows: ordered by task, agent and seed; their settings are those that differ between rows.
        shared: the settings that all rows have in common.
    """

    rows: tuple[Row, ...]
    shared: dict[str, Any]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Board:
        """The board of any rows."""
        longest: dict[tuple[str, str], int] = {}
        rows = sorted(rows, key=lambda row: row.key)
        for row in rows:
            longest[row.task, row.label] = max(row.steps, longest.get((row.task, row.label), 0))
        rows = [row for row in rows if row.steps == longest[row.task, row.label]]
        first = rows[0].settings if rows else {}
        shared = {name: value for name, value in first.items() if all(row.settings.get(name) == value for row in rows)}
        own = ({name: value for name, value in row.settings.items() if name not in shared} for row in rows)
        return cls(tuple(replace(row, settings=each) for row, each in zip(rows, own, strict=True)), shared)

    @property
    def tasks(self) -> list[str]:
        """Ids of the tasks."""
        return list(dict.fromkeys(row.task for row in self.rows))

    def runs(self, task: str, agent: str) -> list[Row]:
        """An agent's rows on a task, by seed."""
        return [row for row in self.rows if (row.task, row.label) == (task, agent)]

    def agents(self, task: str) -> list[str]:
        """Agents on a task, the best first."""
        names = {row.label for row in self.rows if row.task == task}
        return sorted(names, key=lambda name: (-float(interquartile_mean(_values(self.runs(task, name)))), name))

    @property
    def complete_agents(self) -> list[str]:
        """Agents that were trained on every task, the best first."""
        names = sorted({row.label for row in self.rows})
        complete = [name for name in names if all(self.runs(task, name) for task in self.tasks)]
        return sorted(complete, key=lambda name: -estimate(self.scores(name)).value)

    def scores(self, agent: str) -> Scores:
        """Values of an agent's runs, by task."""
        return [_values(self.runs(task, agent)) for task in self.tasks]


def _values(rows: Sequence[Row]) -> list[float]:
    return [row.value for row in rows]


def markdown_tables(rows: Sequence[Row]) -> str:
    """All tables of a leaderboard as Markdown.

    Args:
        rows: of one version, one or more.

    Returns:
        A section for each task, then one for all tasks together where there are several.
    """
    board = Board.of(rows)
    parts = [_task_section(board, task) for task in board.tasks]
    if len(board.tasks) > 1 and board.complete_agents:
        parts.append(_all_tasks(board))
    few = sorted({row.label for row in board.rows if len(board.runs(row.task, row.label)) < 2})
    if few:
        parts.append(f"An interval needs two seeds or more; there is only one of {', '.join(few)}.\n")
    if board.shared:
        changed = ", ".join(f"{name}={json.dumps(value)}" for name, value in board.shared.items())
        parts.append(f"Settings of all agents: {changed}.\n")
    versions = sorted({row.version for row in rows})
    parts.append(f"Version {', '.join(versions)}; every figure is computed from the rows beside this table.\n")
    return "\n".join(parts)


def _task_section(board: Board, task: str) -> str:
    agents = board.agents(task)
    has_scale = not any(math.isnan(row.score) for row in board.rows if row.task == task)
    what = "score" if has_scale else "accuracy at T"
    lines = [
        f"## {task}\n",
        *_table(
            ("agent", "seeds", "steps", what, "accuracy by t", "return", "looks", "CPU seconds"),
            [_agent_cells(board.runs(task, agent)) for agent in agents],
        ),
    ]
    budgets = [budget for budget in BUDGETS if any(row.steps >= budget for row in board.rows if row.task == task)]
    seconds = _shared_seconds(board, task)
    cuts: dict[str, Callable[[Sequence[Row]], str]] = {
        f"{budget:,} steps": functools.partial(_cell_at_steps, budget) for budget in budgets
    }
    if seconds is not None:
        cuts[f"{seconds:,.0f} CPU seconds"] = functools.partial(_cell_at_seconds, seconds)
    if cuts:
        cells = [[agent, *(cut(board.runs(task, agent)) for cut in cuts.values())] for agent in agents]
        lines += [f"\nValidation {what} of the same trainings after equal budgets:\n", *_table(("agent", *cuts), cells)]
    learners = [agent for agent in agents if any(row.steps_taken for row in board.runs(task, agent))]
    best = (learners or agents)[0]
    others = [agent for agent in agents if agent != best]
    if others:
        pairs = [_pair_cells(board, task, best, other) for other in others]
        lines += [
            f"\n{best} against the others:\n",
            *_table(("other", "difference over equal seeds", "probability of improvement"), pairs),
        ]
    return "\n".join(lines) + "\n"


def _agent_cells(rows: list[Row]) -> list[str]:
    accuracy = np.mean([row.accuracy for row in rows], axis=0)
    return [
        rows[0].label,
        str(len(rows)),
        f"{np.median([row.steps_taken for row in rows]):,.0f}",
        str(estimate([_values(rows)])),
        " ".join(f"{value:.3f}" for value in accuracy),
        f"{np.mean([row.returns for row in rows]):.3f}",
        f"{np.mean([row.looks for row in rows]):.2f}",
        f"{np.mean([row.cpu_seconds for row in rows]):.0f}",
    ]


def _shared_seconds(board: Board, task: str) -> float | None:
    """CPU seconds that every training has taken; None if fewer than two agents have learned anything."""
    curves = [(row.label, row.curve) for row in board.rows if row.task == task and row.steps_taken and row.curve]
    return min(curve[-1].cpu_seconds for _, curve in curves) if len({label for label, _ in curves}) > 1 else None


def _cell_at_steps(steps: int, rows: Sequence[Row]) -> str:
    """The last points of the curves up to these steps; empty for shorter trainings."""
    if any(row.steps_taken and row.steps < steps for row in rows):
        return ""
    return _cut_cell([[point.value for point in row.curve if point.steps <= 1.1 * steps] for row in rows])


def _cell_at_seconds(seconds: float, rows: Sequence[Row]) -> str:
    """The last points of the curves within these seconds."""
    return _cut_cell(
        [[point.value for point in row.curve if not point.steps or point.cpu_seconds <= seconds] for row in rows]
    )


def _cut_cell(values: list[list[float]]) -> str:
    """The interval of the curves' last values; empty if a curve has none."""
    return str(estimate([[each[-1] for each in values]])) if all(values) else ""


def _pair_cells(board: Board, task: str, best: str, other: str) -> list[str]:
    ours, theirs = ({row.seed: row.value for row in board.runs(task, name)} for name in (best, other))
    shared = sorted(ours.keys() & theirs.keys())
    difference = str(paired_difference([[ours[s] for s in shared]], [[theirs[s] for s in shared]])) if shared else ""
    return [other, difference, str(probability_of_improvement([[*ours.values()]], [[*theirs.values()]]))]


def _all_tasks(board: Board) -> str:
    agents = board.complete_agents
    rows = []
    for agent, following in zip(agents, [*agents[1:], None], strict=True):
        scores = board.scores(agent)
        better = "" if following is None else str(probability_of_improvement(scores, board.scores(following)))
        rows.append([agent, str(estimate(scores)), better])
    table = _table(("agent", "score, interquartile mean", "probability of improvement over the next"), rows)
    return "\n".join([f"## All {len(board.tasks)} tasks\n", *table]) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def learning_curves(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Learning curves by task and agent: `steps`, `mean`, `low` and `high` of the score over the seeds.

    Agents that learn nothing have one point.
    """
    board, curves = Board.of(rows), dict[str, dict[str, Any]]()
    for task in board.tasks:
        for agent in board.agents(task):
            points = list(zip(*(row.curve for row in board.runs(task, agent)), strict=False))
            found = [estimate([[point.value for point in column]]) for column in points]
            curves.setdefault(task, {})[agent] = {
                "steps": [column[0].steps for column in points],
                "mean": [each.value for each in found],
                "low": [each.low for each in found],
                "high": [each.high for each in found],
            }
    return curves


def radar(rows: Sequence[Row]) -> tuple[list[str], dict[str, list[float]]]:
    """Tasks, and of each agent trained on most of them its interquartile mean by task, NaN where there is none."""
    board, means = Board.of(rows), dict[str, list[float]]()
    for agent in sorted({row.label for row in board.rows}):
        values = [float(interquartile_mean(scores)) if scores else math.nan for scores in board.scores(agent)]
        if sum(map(math.isfinite, values)) > len(values) / 2:
            means[agent] = values
    return board.tasks, dict(sorted(means.items(), key=lambda item: -np.nanmean(item[1])))


def profiles(rows: Sequence[Row]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Thresholds (M,), and of each agent trained on all tasks the share of runs above each of them, (M,)."""
    board = Board.of(rows)
    return _THRESHOLDS, {
        agent: performance_profile(board.scores(agent), _THRESHOLDS) for agent in board.complete_agents
    }
