"""The leaderboard: the same steps for all, resumable, rows that others can add to, meaningful intervals."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Notes
from stable_baselines3.common.buffers import ReplayBuffer

import agents.leaderboard.training
from agents.algorithms.registry import AGENTS
from agents.leaderboard.rows import Point, Row, append_row, read_folder, read_rows, write_rows
from agents.leaderboard.schedule import make_specs, run_leaderboard
from agents.leaderboard.statistics import (
    estimate,
    interquartile_mean,
    paired_difference,
    performance_profile,
    probability_of_improvement,
)
from agents.leaderboard.tables import learning_curves, markdown_tables, radar
from agents.leaderboard.trainers import MakeEnv, train_greedy_entropy
from agents.leaderboard.training import TrainingSpec, run_training
from agents.runs.stages import locked
from gfnet_env import __version__
from gfnet_env.rewards import reward_arguments
from gfnet_env.suite import SUITE
from scripts.cli import main

BOARD = Path(__file__).parents[1] / "docs" / "leaderboard"
SIGNS = "GFNet-SyntheticSigns-v0"
SMALL = {
    "rules.num_scenes": 24,
    "policy_options.extractor": {"conv_channels": 2, "units": 8},
    "num_envs": 8,
    "evaluations": 4,
}


def _benchmark(out: Path, *words: str, steps: int = 96, seeds: int = 2) -> int:
    changes = [f"{key}={value}".replace("'", "") for key, value in SMALL.items()]
    numbers = ["--steps", str(steps), "--seeds", str(seeds)]
    return main(["benchmark", *words, "--out", str(out), *numbers, "--set", *changes, "--quiet"])


def _spec(agent: str = "ppo", **settings: Any) -> TrainingSpec:
    (spec,) = make_specs([agent], [SIGNS], steps=96, seeds=1, changes=SMALL | settings)
    return spec


def row(value: float = 0.5, **fields: Any) -> Row:
    """A row made up for tests, its score and its curve's last point as given."""
    made: dict[str, Any] = {
        "task": "A-v0",
        "agent": "ppo",
        "settings": {},
        "seed": 0,
        "steps": 30_000,
        "steps_taken": 30_000,
        "accuracy": (0.25, 0.5),
        "returns": 0.125,
        "score": value,
        "looks": 2.0,
        "multiply_adds": 1e6,
        "cpu_seconds": 10.0,
        "curve": (Point(10_000, 4.0, 0.0), Point(30_000, 10.0, value)),
        **{"version": "1.0", "commit": "abc", "torch": "2", "device": "cpu", "date": "2026-01-01", "command": "gfnet"},
    }
    return Row(**{**made, **fields})


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollouts of `ppo` have 120 steps, and results are played by as many rows as there are scenes."""
    monkeypatch.setitem(AGENTS, "ppo", replace(AGENTS["ppo"], rollout=120))
    monkeypatch.setattr(agents.leaderboard.training, "_ROWS_TO_PLAY", 24)


@pytest.mark.usefixtures("small")
def test_every_agent_and_seed_is_trained_once(tmp_path: Path) -> None:
    assert _benchmark(tmp_path, "ppo", seeds=1) == 0
    first = read_rows(tmp_path / "rows.csv")
    (policy,) = tmp_path.rglob("policy.safetensors")
    before = policy.stat().st_mtime_ns

    assert _benchmark(tmp_path, "ppo", "dqn", "random", seeds=2) == 0

    rows = read_rows(tmp_path / "rows.csv")
    wanted = [(agent, seed) for agent in ("ppo", "dqn", "random") for seed in (0, 1)]
    assert sorted((each.agent, each.seed) for each in rows) == sorted(wanted)
    assert rows[0].device == "cpu" and rows[0].command
    assert rows[0].date == first[0].date and policy.stat().st_mtime_ns == before
    assert all(len(each.accuracy) == 4 and each.looks == 4.0 and each.version == __version__ for each in rows)
    assert {each.agent: each.steps_taken for each in rows} == {"ppo": 120, "dqn": 96, "random": 0}  # ppo: a rollout
    assert all(each.curve[-1].steps == each.steps_taken for each in rows)
    tables = (tmp_path / "tables.md").read_text()
    assert f"## {SIGNS}" in tables and "| random | 2 | 0 |" in tables and "all agents: rules.num_scenes=24" in tables
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("small")
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.algorithms.stage2._SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr("agents.algorithms.stage2._LARGEST_FRACTION", 1e9)
    spec = _spec(**{"options.rollout": 24})
    whole = run_training(spec, tmp_path / "whole", Notes())
    progress = agents.leaderboard.training._Progress
    on_rollout = progress.on_rollout

    def killed(self: Any, done: int, total: int, figures: dict[str, float]) -> None:
        on_rollout(self, done, total, figures)
        if done == 72:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress, "on_rollout", killed)
    with pytest.raises(KeyboardInterrupt):
        run_training(spec, tmp_path / "killed", Notes())
    monkeypatch.setattr(progress, "on_rollout", on_rollout)
    assert (spec.folder(tmp_path / "killed") / "checkpoint.pt").is_file()
    resumed = run_training(spec, tmp_path / "killed", Notes())

    assert [point.steps for point in whole.curve] == [24, 48, 72, 96]
    assert [(p.steps, p.value) for p in resumed.curve] == [(p.steps, p.value) for p in whole.curve]
    assert (resumed.accuracy, resumed.returns) == (whole.accuracy, whole.returns)
    assert not (spec.folder(tmp_path / "killed") / "checkpoint.pt").exists()


@pytest.mark.usefixtures("small")
def test_a_finished_training_gives_back_its_replay_buffer(tmp_path: Path) -> None:
    gc.disable()  # nothing else collects it
    try:
        run_training(_spec("dqn"), tmp_path, Notes())
        assert not any(issubclass(type(each), ReplayBuffer) for each in gc.get_objects())
    finally:
        gc.enable()


@pytest.mark.usefixtures("small")
def test_a_training_that_another_process_works_on_is_left_to_it(tmp_path: Path) -> None:
    specs = make_specs(["random", "center_corner"], [SIGNS], steps=96, seeds=1, changes={"rules.num_scenes": 24})

    with locked(specs[0].folder(tmp_path)):
        rows = run_leaderboard(specs, tmp_path, reporter=Notes())

    assert [each.agent for each in rows] == ["center_corner"]
    assert [each.agent for each in run_leaderboard(specs, tmp_path, reporter=Notes())] == ["random", "center_corner"]


@pytest.mark.usefixtures("small")
def test_agents_that_stop_and_choose_sizes_are_judged_by_playing(tmp_path: Path) -> None:
    rules = {
        "rules.patch_sizes": [32, 48],
        "rules.size_action": True,
        "rules.stop_action": True,
        "rules.step_cost": "multiply_adds",
        "rules.price": 0.125,
        "rules.reward": "increment",
    }

    played = run_training(_spec(**rules), tmp_path, Notes())
    few = {"rules.num_scenes": 24, **rules}
    anything, corners = make_specs(["random", "center_corner"], [SIGNS], steps=96, seeds=1, changes=few)
    random = run_training(anything, tmp_path, Notes())

    assert played.steps_taken == 120
    assert 1.0 < random.looks < 4.0  # half of the random actions stop
    assert len(random.accuracy) == 4 and random.returns < 0.0
    with pytest.raises(ValueError, match="says only where to look"):
        run_training(corners, tmp_path, Notes())


def test_greedy_entropy_learns_without_labels(tmp_path: Path) -> None:
    spec = make_specs(["greedy_entropy"], [SIGNS], steps=256, seeds=1, changes={"rules.num_scenes": 24})[0]
    rewards = []

    class Spy(MakeEnv):
        def __call__(self, *args: Any, **rules: Any) -> Any:
            rewards.append(rules["reward"])
            return super().__call__(*args, **rules)

    train_greedy_entropy(Spy(SIGNS, {"num_scenes": 24}), 64, seed=0)
    row = run_training(spec, tmp_path, Notes())

    assert [reward_arguments(reward) for reward in rewards] == [("entropy", "previous_entropy")]
    assert row.steps_taken == 256 and len(row.accuracy) == 4
    with pytest.raises(ValueError, match=r"leave out rules\.reward"):
        train_greedy_entropy(MakeEnv(SIGNS, {"num_scenes": 24, "reward": "increment"}), 64, seed=0)


EXTERNAL = """
import numpy as np


def train(make_env, steps, seed):
    env = make_env(4)
    env.reset(seed=seed)
    for _ in range(steps // 4):
        env.step(env.action_space.sample())
    return lambda observation: np.zeros((len(observation["hidden"]), 2), np.float32)


def model(make_env, steps, seed):
    import agents
    return agents.make_agent("a2c", make_env(2), seed=seed)


def nothing(make_env, steps, seed):
    return 3


def wide(make_env, steps, seed):
    return lambda observation: 0.5
"""


@pytest.mark.usefixtures("small")
def test_algorithms_of_other_libraries_enter_the_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_algorithm.py").write_text(EXTERNAL)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--steps", "24", "--seeds", "1", "--quiet", "--out", str(tmp_path / "out"), "--set", "rules.num_scenes=24"]

    external = ["--external", "my_algorithm:train", "--external", "my_algorithm:model"]
    assert main(["benchmark", "center_corner", *external, *words]) == 0

    rows = {each.agent: each for each in read_rows(tmp_path / "out" / "rows.csv")}
    assert rows["my_algorithm:train"].steps_taken == 24
    assert rows["my_algorithm:train"].accuracy[1] == rows["center_corner"].accuracy[1]  # both look at the center first
    assert rows["my_algorithm:model"].steps_taken == 0

    for name, said in (
        ("my_algorithm:nothing", "a int is no policy"),
        ("my_algorithm:wide", "shape ()"),
        ("my_algorithm:trian", "did you mean 'train'"),
        ("no_such_module:train", "no_such_module"),
    ):
        assert main(["benchmark", "--external", name, *words]) == 1
        assert said in capsys.readouterr().err


def test_trainings_in_processes_are_those_of_one_and_import_agents_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_agents.py").write_text(
        "from stable_baselines3 import A2C\n"
        "from agents.algorithms.registry import AGENTS, AgentRecipe\n"
        "AGENTS['mine'] = AgentRecipe(A2C, 'MultiInputPolicy', {'gamma': 0.7, 'n_steps': 3})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    try:
        for jobs in ("1", "2"):
            assert _benchmark(tmp_path / jobs, "mine", "--import", "my_agents", "--jobs", jobs, steps=24) == 0
    finally:
        AGENTS.pop("mine", None)

    alone, beside = (sorted(read_rows(tmp_path / jobs / "rows.csv"), key=lambda each: each.key) for jobs in ("1", "2"))
    assert [each.agent for each in beside] == ["mine", "mine"]
    assert [each.accuracy for each in alone] == [each.accuracy for each in beside]
    assert [each.returns for each in alone] == [each.returns for each in beside]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pppo"], "did you mean 'ppo'"),
        (["ppo", "--task", "GFNet-SyntheticSign-v0"], "did you mean 'GFNet-SyntheticSigns-v0'"),
        (["ppo", "--steps", "0"], "0 steps"),
        (["ppo", "--jobs", "0"], "--jobs 0"),
        (["ppo", "--set", "option.gamma=0.9"], "did you mean 'options'"),
        (["ppo", "--set", "options.gama=0.9", "rules.num_scenes=24"], "did you mean 'options.gamma'"),
        (["random", "--set", "options.gamma=0.9"], "options has no effect on random"),
        (["ppo", "--set", "rules.reward=increments"], "reward"),
        ([], "needs agents"),
        (["--table", "nowhere"], "nowhere holds no .csv file"),
        (["ppo", "--import", "no_such_agents"], "no_such_agents"),
        (["ppo", "--engine", "ray"], "--engine ray needs Ray; run `pip install 'gfnet-gym[ray]'`"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find_spec(name))

    assert main(["benchmark", "--out", str(tmp_path / "out"), "--quiet", *words]) == 1

    error = capsys.readouterr().err
    assert said in error.replace("\n", " ") and "Traceback" not in error
    assert not list(tmp_path.rglob("*.csv"))


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [row(0.25, settings={"options.gamma": 0.9}), row(0.5, seed=1), row(float("nan"), seed=2)]

    write_rows(tmp_path / "rows.csv", rows)

    found = read_rows(tmp_path / "rows.csv")
    assert found[:2] == rows[:2]
    assert math.isnan(found[2].score) and found[2].value == 0.5  # accuracy at T, where there is no scale
    assert found[0].label == "ppo gamma=0.9"
    append_row(tmp_path / "rows.csv", row(0.75, seed=1))  # there already
    append_row(tmp_path / "rows.csv", row(0.75, seed=3))
    assert [each.score for each in read_rows(tmp_path / "rows.csv")][3:] == [0.75]


def test_rows_that_do_not_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    write_rows(path, [row(), row(seed=1, version="0.9")])
    with pytest.raises(ValueError, match=r"rows.csv, line 3 was measured with version 0.9, the others are of 1.0"):
        read_folder(tmp_path)
    words = ["--out", str(tmp_path / "out"), "--csv", str(path), "--quiet"]
    assert main(["benchmark", "random", *words, "--set", "rules.num_scenes=24"]) == 1
    assert "line 2 was measured with version 1.0" in capsys.readouterr().err
    assert not list(tmp_path.rglob("row.csv"))  # said before anything is trained

    write_rows(path, [row(), row()])
    with pytest.raises(ValueError, match="line 3 repeats A-v0, ppo, seed 0"):
        read_rows(path)
    path.write_text(path.read_text().replace("30000,30000", "many,30000", 1))
    with pytest.raises(ValueError, match="line 2 can't be read"):
        read_rows(path)
    path.write_text("task,agent\n")
    with pytest.raises(ValueError, match="columns"):
        read_rows(path)


def test_tables_are_computed_from_the_rows() -> None:
    good = [row(value, seed=seed, steps_taken=30_000) for seed, value in enumerate((0.6, 0.7, 0.8))]
    bad = [row(value, seed=seed, agent="a2c") for seed, value in enumerate((0.1, 0.2, 0.3))]
    short = row(0.9, agent="a2c", steps=10_000)  # of a shorter training: not compared
    other = [replace(each, task="B-v0", score=each.score / 2) for each in good + bad]

    tables = markdown_tables([*bad, *good, short, *other])

    first = tables.split("## B-v0")[0]
    assert first.index("| ppo | 3 | 30,000 | 0.700 [0.600, 0.800] |") < first.index("| a2c | 3 | 30,000 | 0.200")
    assert "| ppo | 0.000 [0.000, 0.000] | 0.700 [0.600, 0.800] | 0.700 [0.600, 0.800] |" in first  # by budget
    assert "| a2c | 0.500 [0.500, 0.500] | 1.000 [1.000, 1.000] |" in first
    assert "## All 2 tasks" in tables and "| ppo | 0.512" in tables.split("## All 2 tasks")[1]
    assert learning_curves(good)["A-v0"]["ppo"]["steps"] == [10_000, 30_000]
    means = radar([*good, *bad, *other, *(replace(each, task="C-v0") for each in good)])[1]
    assert means["ppo"] == pytest.approx([0.7, 0.35, 0.7])
    assert means["a2c"][:2] == pytest.approx([0.2, 0.1]) and math.isnan(means["a2c"][2])
    assert "needs two seeds or more; there is only one of ppo" in markdown_tables([row()])


def test_the_tables_of_the_docs_are_computed_from_their_rows() -> None:
    rows = read_folder(BOARD)

    assert (BOARD / "tables.md").read_text(encoding="utf-8") == markdown_tables(rows)
    assert {each.version for each in rows} == {__version__}
    assert {each.task for each in rows} >= {task.env_id for task in SUITE.values()}


def test_statistics_are_those_of_rliable() -> None:
    """Recorded with rliable 1.2.0, which has the intervals from 5,000 and 2,000 samples."""
    ours = [[0.64, 0.02, 0.61, 0.94, 0.86], [0.27, 0.81, 0.73, 0.82, 0.03], [0.04, 0.91, 0.54, 0.00, 0.73]]
    theirs = [[0.41, 0.76, 0.66, 0.02, 0.26], [0.76, 0.25, 0.33, 0.60, 0.63], [0.12, 0.34, 0.44, 0.43, 0.24]]
    assert estimate(ours) == pytest.approx((0.57666667, 0.31111111, 0.77333333), abs=0.02)
    assert probability_of_improvement(ours, theirs) == pytest.approx((0.62, 0.38666667, 0.84), abs=0.02)
    assert estimate(ours).value == pytest.approx(0.57666667)
    assert probability_of_improvement(ours, theirs).value == pytest.approx(0.62)
    profile = performance_profile(ours, np.array([0.25, 0.5, 0.75]))
    assert profile == pytest.approx([0.73333333, 0.66666667, 0.33333333])


def test_interquartile_mean_drops_a_quarter_at_each_end() -> None:
    assert interquartile_mean([9.0, 1.0, 2.0, 3.0]) == 2.5
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0


def test_bootstrap_interval_of_three_seeds_is_that_of_all_draws() -> None:
    values = [0.2, 0.5, 0.8]
    exact = np.array([np.mean(draw) for draw in itertools.product(values, repeat=3)])

    found = estimate([values])

    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(np.quantile(exact, 0.025, method="inverted_cdf"))
    assert found.high == pytest.approx(np.quantile(exact, 0.975, method="inverted_cdf"))
    assert math.isnan(estimate([[0.5]]).low)


def test_pairs_of_agents_are_compared_by_task_and_by_seed() -> None:
    ours, theirs = [[0.5, 0.7], [0.2, 0.4]], [[0.5, 0.6], [0.3, 0.3]]

    assert probability_of_improvement(ours, theirs).value == pytest.approx((2.5 / 4 + 2 / 4) / 2)
    assert paired_difference(ours, theirs).value == pytest.approx(0.025)
    assert performance_profile(ours, np.array([0.0, 0.45])).tolist() == [1.0, 0.5]
