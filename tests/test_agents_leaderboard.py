"""The leaderboard: the same steps for all, resumable, and intervals that mean something."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from agents.algorithms.registry import AGENTS
from agents.leaderboard import (
    Baseline,
    Leaderboard,
    Result,
    bootstrap_interval,
    interquartile_mean,
    leaderboard_curves,
    markdown_table,
)
from scripts.cli import main

SMALL = [
    "data.num_train=24",
    "data.num_val=6",
    "data.num_test=8",
    "stage2.num_envs=8",
    "stage2.policy_options={extractor: {conv_channels: 2, units: 8}}",
    "oracle_grid=2",
]


def _benchmark(out: Path, *words: str, steps: int = 96, seeds: int = 2) -> int:
    changes = [part for change in SMALL for part in ("--set", change)]
    return main(
        ["benchmark", *words, "--out", str(out), "--steps", str(steps), "--seeds", str(seeds), *changes, "--quiet"]
    )


def test_every_agent_and_seed_is_trained_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _benchmark(tmp_path, "ppo", seeds=1) == 0
    first = json.loads((tmp_path / "leaderboard.json").read_text())
    before = (tmp_path / "ppo" / "seed_0" / "result.json").stat().st_mtime_ns

    assert _benchmark(tmp_path, "ppo", "dqn", seeds=2) == 0

    content = json.loads((tmp_path / "leaderboard.json").read_text())
    assert [(r["agent"], r["seed"]) for r in content["results"]] == list(itertools.product(["ppo", "dqn"], [0, 1]))
    assert content["results"][:1] == first["results"]
    assert (tmp_path / "ppo" / "seed_0" / "result.json").stat().st_mtime_ns == before
    assert all(len(r["accuracy"]) == 4 and r["env_steps"] >= 96 and r["curve"] for r in content["results"])
    assert content["baseline"]["oracle"][1] >= content["baseline"]["random"][1]
    assert (tmp_path / "leaderboard.md").read_text().startswith("| agent (2 seeds) |")
    assert (tmp_path / "leaderboard.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "dqn" / "seed_0" / "policy.safetensors").is_file()

    assert _benchmark(tmp_path, "ppo", steps=200, seeds=1) == 1  # results of other settings are not mixed
    assert "stage2.env_steps=96" in capsys.readouterr().err


def test_an_agent_of_ones_own_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_agents.py").write_text(
        "from stable_baselines3 import A2C\n"
        "from agents.algorithms.registry import AGENTS, AgentRecipe\n"
        "AGENTS['mine'] = AgentRecipe(A2C, 'MultiInputPolicy', {'gamma': 0.7, 'n_steps': 3})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    try:
        assert _benchmark(tmp_path / "out", "mine", "--import", "my_agents", seeds=1) == 0
    finally:
        AGENTS.pop("mine", None)

    results = json.loads((tmp_path / "out" / "leaderboard.json").read_text())["results"]
    assert [result["agent"] for result in results] == ["mine"]


def test_a_module_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _benchmark(tmp_path / "out", "ppo", "--import", "no_such_agents") == 1
    assert "no_such_agents" in capsys.readouterr().err


def test_bad_names_and_numbers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _benchmark(tmp_path / "out", "pppo") == 1
    assert _benchmark(tmp_path / "out", "ppo", steps=0) == 1
    assert _benchmark(tmp_path / "out", "ppo", "--set", "stage2.evaluations=3") == 1

    said = capsys.readouterr().err
    assert "pppo" in said and "0 steps" in said and "stage2.evaluations=3" in said
    assert not (tmp_path / "out").exists()


def test_interquartile_mean_drops_a_quarter_at_each_end() -> None:
    assert interquartile_mean([9.0, 1.0, 2.0, 3.0]) == 2.5
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0


def test_bootstrap_interval_of_three_seeds_is_that_of_all_draws() -> None:
    values = [0.2, 0.5, 0.8]
    exact = np.array([np.mean(draw) for draw in itertools.product(values, repeat=3)])

    low, high = bootstrap_interval(values, samples=200_000)

    assert low == pytest.approx(np.quantile(exact, 0.025, method="inverted_cdf"))
    assert high == pytest.approx(np.quantile(exact, 0.975, method="inverted_cdf"))
    wide, narrow = bootstrap_interval(values, level=0.95), bootstrap_interval(values, level=0.5)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]
    assert bootstrap_interval([0.5, 0.5]) == (0.5, 0.5)


def _result(agent: str, seed: int, accuracy: float, shares: list[float]) -> Result:
    curve = tuple((1000 * (i + 1), share) for i, share in enumerate(shares))
    return Result(agent, seed, (0.5, accuracy, accuracy), 0.9, curve, 3000, 10.0)


def test_table_is_ordered_and_says_who_never_came_close() -> None:
    board = Leaderboard(
        Baseline((0.5, 0.5, 0.5), (0.5, 0.9, 1.0)),
        (
            _result("slow", 0, 0.6, [0.1, 0.2, 0.25]),
            _result("slow", 1, 0.6, [0.1, 0.2, 0.91]),
            _result("fast", 0, 0.86, [0.5, 0.95, 0.9]),
            _result("fast", 1, 0.82, [0.95, 0.7, 0.8]),
        ),
    )

    table = markdown_table(board).splitlines()

    assert board.agents == ["fast", "slow"]
    assert "| fast | 0.840 [0.820, 0.860] |" in table[2] and "| 1,500 |" in table[2]
    assert "| 0.850 [0.800, 0.900] |" in table[2]
    assert "3,000 (1 of 2 seeds)" in table[3]
    assert table[4].startswith("| *random* | 0.500 |") and table[5].startswith("| *oracle* | 0.900 | 1.000 | 1 |")
    curve = leaderboard_curves(board)["fast"]
    assert curve["steps"] == [1000, 2000, 3000] and curve["mean"][0] == pytest.approx(0.725)
