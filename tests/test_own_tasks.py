"""A task of one's own trains, is benchmarked and reported as those of the package."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
import yaml

import agents.leaderboard.training
from agents.leaderboard.rows import read_rows
from agents.runs.config_files import ConfigError, load_config
from classifiers.checkpoints import load_classifier
from gfnet_env import REWARDS, TASKS, TaskImages
from scripts.cli import main

MODULE = """
import torch
from PIL import Image

from classifiers import ClassifierSpec, GlanceFocusClassifier
from gfnet_env import ScoreScale, image_folder_task, register_reward, register_task


class Squares:
    classes = ("dark", "light")
    targets = tuple(index % 2 for index in range(8))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = Image.new("RGB", (48, 64), "gray")
        image.paste("white" if index % 2 else "black", (0, 0, 24, 4 * index + 16))
        return image, index % 2


def squares_task(split="train", seed=0):
    torch.manual_seed(seed)
    spec = ClassifierSpec(encoder="small_resnet", patch_size=32, num_glimpses=3, hidden_size=8)
    classifier = GlanceFocusClassifier(spec, num_classes=2)
    return image_folder_task(
        dataset=Squares(), is_deterministic=True, image_size=(64, 48), classifier=classifier, split=split
    )


def half(probability, previous_probability):
    return (probability - previous_probability) / 2


register_reward("half", half)
register_task("Squares-v0", squares_task, rules={"reward": "increment", "step_cost": 0.125}, scale=ScoreScale(0.0, 1.0))
"""
CONFIG = {
    "start": "task",
    "data": {"kind": "task", "id": "Squares-v0", "num_test": 6},
    "stage2": {
        "env_steps": 32,
        "num_envs": 4,
        "options": {"rollout": 16, "batches": 1, "n_epochs": 1},
        "policy_options": {"extractor": {"conv_channels": 2, "units": 4}},
    },
    "stage3": {"epochs": 0},
    "oracle_grid": 2,
    "fixed_place_grid": 2,
}


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with `my_task.py` and `squares.yaml`, the current one."""
    (tmp_path / "my_task.py").write_text(MODULE)
    (tmp_path / "squares.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(agents.leaderboard.training, "_ROWS_TO_PLAY", 8)
    yield tmp_path
    sys.modules.pop("my_task", None)
    REWARDS.pop("half", None)
    TASKS.pop("Squares-v0", None)
    gymnasium.registry.pop("Squares-v0", None)


def _gfnet(*words: str) -> int:
    return main([*words, "--import", "my_task", "--quiet"])


def test_a_run_trains_on_it_with_its_own_classifier_and_rules(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("scripts.commands.write_report", lambda *_: None)
        assert _gfnet("train", "squares.yaml", "--out", "run", "--set", "stage3.epochs=1", "stage3.batch_size=4") == 0

    config = yaml.safe_load((squares / "run" / "config.yaml").read_text())
    assert (config["stage2"]["episode"]["reward"], config["stage2"]["episode"]["step_cost"]) == ("increment", 0.125)
    assert config["classifier"]["patch_size"] == 32 and config["classifier"]["num_glimpses"] == 3
    kept, names = load_classifier(squares / "run" / "stage1" / "classifier.safetensors")
    own = TaskImages(id="Squares-v0").networks()
    assert names == ("dark", "light")
    for name, weight in own.state_dict().items():
        assert torch.equal(weight, kept.state_dict()[name]), name
    tuned = load_classifier(squares / "run" / "stage3" / "classifier.safetensors")[0].state_dict()
    assert any(not torch.equal(weight, tuned[name]) for name, weight in own.state_dict().items())

    metrics = json.loads((squares / "run" / "metrics.json").read_bytes())
    assert metrics["images"] == 6 and set(metrics["accuracy"]) >= {"random", "learned", "oracle"}
    assert _gfnet("report", "run") == 0
    assert (squares / "run" / "report.html").is_file()
    assert _gfnet("evaluate", "run", "--split", "val", "--policies", "learned") == 0


def test_agents_are_benchmarked_on_it(squares: Path) -> None:
    few = [
        "--steps",
        "16",
        "--seeds",
        "2",
        "--set",
        "num_envs=4",
        "evaluations=1",
        "options.rollout=16",
        "options.batches=1",
    ]

    assert _gfnet("benchmark", "ppo", "random", "--task", "Squares-v0", "--out", "board", *few) == 0

    rows = read_rows(squares / "board" / "rows.csv")
    assert sorted((row.agent, row.seed) for row in rows) == [("ppo", 0), ("ppo", 1), ("random", 0), ("random", 1)]
    assert all(row.score == row.accuracy[-1] and len(row.accuracy) == 3 for row in rows)
    assert all(row.returns < -0.125 for row in rows)  # two looks cost 0.25, random networks gain next to nothing


@pytest.mark.usefixtures("blank_report")
def test_a_reward_of_ones_own_has_a_name_everywhere(squares: Path) -> None:
    assert _gfnet("train", "squares.yaml", "--out", "run", "--set", "stage2.episode.reward=half") == 0
    assert "reward: half" in (squares / "run" / "config.yaml").read_text()

    words = ["random", "--task", "Squares-v0", "--seeds", "1", "--out", "board"]
    assert _gfnet("benchmark", *words) == 0 and _gfnet("benchmark", *words, "--set", "rules.reward=half") == 0

    whole, half = read_rows(squares / "board" / "rows.csv")
    assert half.settings == {"rules.reward": "half"}
    assert half.returns + 0.25 == pytest.approx((whole.returns + 0.25) / 2, abs=1e-4)
    assert (half.score, half.accuracy) == (whole.score, whole.accuracy)  # a reward changes no accuracy


@pytest.mark.slow
@pytest.mark.usefixtures("blank_report")
def test_an_id_of_the_package_trains_as_its_own_kind_of_data(tmp_path: Path) -> None:
    kinds = {
        "task": ("data={kind: task, id: GFNet-SyntheticSigns-v0, arguments: {num_scenes: 12}}", "start=task"),
        "signs": ("data={kind: synthetic_signs, num_train: 12, num_val: 12, num_test: 12}", "start=pretrained"),
    }
    few = ("stage2.num_envs=2", "stage2.env_steps=12", "oracle_grid=0", "fixed_place_grid=0")
    small = ("stage2.policy_options={extractor: {conv_channels: 2, units: 8}}", "stage2.options.n_steps=6")

    for name, words in kinds.items():
        assert main(["demo", "--out", str(tmp_path / name), "--quiet", "--set", *few, *small, *words]) == 0

    task, signs = (json.loads((tmp_path / name / "metrics.json").read_bytes()) for name in kinds)
    assert task["accuracy"] == signs["accuracy"] and task["adaptive"] == signs["adaptive"]
    assert task["full_resolution_accuracy"] is None  # a task has no baseline


def test_bad_input_is_one_sentence(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        assert _gfnet(*words) == 1
        return " ".join(capsys.readouterr().err.split())

    train = ("train", "squares.yaml", "--out", "run", "--set")
    unknown = said(*train, "data.id=Squares-v1")
    assert "did you mean 'Squares-v0'? pass one of" in unknown and "--import MODULE" in unknown
    assert "start=task takes the classifier of data.kind=task" in said(*train, "data={kind: image_folder}")
    assert "start_stage=3 with start=task" in said(*train, "start_stage=3")
    assert "episode.stop_action is not for runs" in said(*train, "stage2.episode.stop_action=true")
    assert "config data.id is missing" in said(*train, "data={kind: task}")
    assert "classifier.hidden_size=16, but the networks of start (task) have 8" in said(
        *train, "classifier.hidden_size=16"
    )
    assert "did you mean 'half'" in said(*train, "stage2.episode.reward=hall")
    assert not (squares / "run").exists()


def test_rules_of_a_run_come_before_those_of_the_id(squares: Path) -> None:
    sys.path.insert(0, str(squares))
    __import__("my_task")

    episode: Any = load_config("squares.yaml", ["stage2.episode.reward=contrastive"]).stage2.episode

    assert (episode.reward, episode.step_cost) == ("contrastive", 0.125)
    with pytest.raises(ConfigError, match="arguments"):
        load_config("squares.yaml", ["data.arguments=3"])
