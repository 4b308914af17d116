"""The examples of other libraries, most of them in processes of their own.

Each is skipped where its library is not installed: RLlib and the others can't share an environment (`make rllib`).
"""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stable_baselines3 import PPO

from agents.leaderboard.rows import read_rows

ROOT = Path(__file__).parent.parent
ZOO = ROOT / "examples" / "rl_zoo" / "ppo.yml"
LIBRARIES = {"torchrl_ppo.py": "torchrl", "rllib_ppo.py": "ray"}


@pytest.mark.slow
@pytest.mark.parametrize("example", LIBRARIES)
def test_example_learns(example: str, tmp_path: Path) -> None:
    """Random looks recognize 0.53 of the scenes after two looks."""
    if importlib.util.find_spec(LIBRARIES[example]) is None:
        pytest.skip(f"{LIBRARIES[example]} is not installed")
    options = ("--total-steps", "15000", "--num-scenes", "1000", "--test-scenes", "300", "--seed", "0")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}

    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example), *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^ *\d+ steps: return -?\d\.\d{3}$", done.stdout, re.MULTILINE)) >= 10
    after_two = {
        name: float(share) for name, share in re.findall(r"^(\w+) t=2: (\d\.\d{3})", done.stdout, re.MULTILINE)
    }
    assert after_two["random"] < 0.6
    assert after_two["learned"] > after_two["random"] + 0.15


def _run(folder: Path, *words: str) -> str:
    """A program's standard output and errors; `folder` gets what it writes."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MINARI_DATASETS_PATH": str(folder / "minari"),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore")
def test_optuna_searches(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    program = ROOT / "examples" / "optuna_search.py"
    monkeypatch.setattr(sys, "argv", [str(program), "--trials", "1", "--steps", "768", "--scenes", "40"])

    runpy.run_path(str(program))

    printed = capfd.readouterr().out
    assert re.search(r"^best: 0\.\d{3} \{'gamma': 0\.", printed, re.MULTILINE)


@pytest.mark.slow
def test_behavior_cloning_finds_the_sign(tmp_path: Path) -> None:
    pytest.importorskip("minari")
    options = ("--episodes", "500", "--epochs", "10", "--test-scenes", "300")

    printed = _run(tmp_path, str(ROOT / "examples" / "behavior_cloning.py"), *options)

    after_two = {name: float(share) for name, share in re.findall(r"^(\w+) .*t=2: (\d\.\d{3})", printed, re.MULTILINE)}
    assert after_two["cloned"] > after_two["random"] + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["GFNet-SyntheticSigns-v0", "GFNet-Search-v0"])
def test_rl_zoo_trains_with_our_hyperparameters(env_id: str, tmp_path: Path) -> None:
    pytest.importorskip("rl_zoo3")
    words = ["-m", "rl_zoo3.train", "--algo", "ppo", "--env", env_id, "--gym-packages", "gfnet_env", "-conf", str(ZOO)]
    words += ["-n", "768", "-f", "logs", "--eval-freq", "-1", "--seed", "0"]

    _run(tmp_path, *words, "--env-kwargs", "num_scenes:100")

    agent = PPO.load(tmp_path / "logs" / "ppo" / f"{env_id}_1" / f"{env_id}.zip", device="cpu")
    assert agent.num_timesteps >= 768 and agent.gamma == yaml.safe_load(ZOO.read_text())[env_id]["gamma"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "library", "steps", "gain"),
    [
        ("board_single_file", "torch", 15360, 0.1),
        ("board_torchrl", "torchrl", 15360, 0.1),
        ("skrl_ppo", "skrl", 1536, -0.1),
    ],
)  # skrl learns as the others do, but its steps cost three times as much
def test_algorithm_enters_the_leaderboard(example: str, library: str, steps: int, gain: float, tmp_path: Path) -> None:
    pytest.importorskip(library)
    words = ["-m", "scripts.cli", "benchmark", "random", "--external", f"examples.{example}:train"]
    words += ["--steps", str(steps - 100)]
    changes = ["rules.num_scenes=1000", "rules.reward=increment", "val_images=60", "test_images=300"]

    _run(tmp_path, *words, "--seeds", "1", "--out", "board", "--quiet", "--set", *changes)

    learned, random = sorted(read_rows(tmp_path / "board" / "rows.csv"), key=lambda row: row.agent)
    assert learned.accuracy[1] > random.accuracy[1] + gain
    assert learned.steps_taken == steps  # whole rollouts


TENSORS = """
from examples.torchrl_ppo import make_env
env = make_env(4, "cpu", num_scenes=8)
env.set_seed(0)
seen = env.rollout(7, break_when_any_done=False)
print(seen["next", "terminated"][..., 0].sum(dim=1).tolist(), seen["progress"][0].argmax(dim=-1).tolist())
print(tuple(seen["next", "reward"].shape))
"""


def test_torchrl_resets_finished_rows_of_tensors(tmp_path: Path) -> None:
    pytest.importorskip("torchrl")

    printed = _run(tmp_path, "-c", TENSORS)

    assert printed.splitlines() == ["[2, 2, 2, 2] [0, 1, 2, 0, 1, 2, 0]", "(4, 7, 1)"]


def test_every_example_is_tested() -> None:
    others = {
        "board_single_file.py",
        "board_torchrl.py",
        "skrl_ppo.py",
        "optuna_search.py",
        "behavior_cloning.py",
        "torchrl_device.py",
        "service.py",
    }
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(LIBRARIES) | others
