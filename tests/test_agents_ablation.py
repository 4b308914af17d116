"""Ablations: every config is what its name says, stages are shared, and the table is over seeds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agents.algorithms.ppo_gru import PPOGRU
from agents.algorithms.stage2 import train_agent
from agents.policies.gru import GlimpseGRUPolicy
from agents.runs.config import RunConfig
from agents.runs.config_files import dump_config, load_run_config
from agents.runs.new_agent import new_agent, policy_env
from agents.runs.pipeline import Pipeline
from agents.studies.ablation import ABLATIONS, FULL, AblationRow, ablation_config, markdown_table
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.training.loop import NotANumberError
from scripts.cli import main

SMALL = [
    "data.num_train=16",
    "data.num_val=4",
    "data.num_test=6",
    "data.scenes.height=96",
    "data.scenes.width=128",
    "classifier.hidden_size=16",
    "initialization.full_resolution.epochs=1",
    "stage1.epochs=1",
    "stage2.num_envs=8",
    "stage2.env_steps=24",
    "oracle_grid=2",
]


def _config(name: str) -> RunConfig:
    return ablation_config(name, [], FULL)


REWARDS = {"increment_reward", "contrastive_reward"}
PAPER = {"paper_stage2", "paper_stage2_increment"}


@pytest.mark.parametrize("name", sorted({*ABLATIONS} - {"full"} - REWARDS - PAPER))
def test_each_changes_its_own_keys_alone(name: str) -> None:
    full = dump_config(_config("full")).splitlines()
    own = dump_config(_config(name)).splitlines()

    changed = [line for line in own if line not in full]

    assert 1 <= len(changed) <= 3 and len(own) <= len(full) + 1


@pytest.mark.parametrize("base", [FULL, "demo", "imagenette", "resnet50_96"])
def test_rewards_and_the_papers_stage2_change_stage2_of_any_config(base: str) -> None:
    of = {name: ablation_config(name, [], base, may_be_unused=True) for name in ("full", *REWARDS, *PAPER)}

    for config in of.values():
        assert dataclasses.replace(config, stage2=of["full"].stage2) == of["full"]
    for name in REWARDS:
        episode = dataclasses.replace(of["full"].stage2.episode, reward=name.removesuffix("_reward"))
        assert of[name].stage2 == dataclasses.replace(of["full"].stage2, episode=episode)
    paper, increment = of["paper_stage2"].stage2, of["paper_stage2_increment"].stage2
    assert dataclasses.replace(increment, episode=paper.episode) == paper
    assert (paper.episode.reward, increment.episode.reward) == ("contrastive", "increment")
    assert paper.env_steps == of["full"].stage2.env_steps and paper.episode.exit_confidence is None
    assert paper.action_std_schedule == (0.1, 0.1) and paper.final_lr_fraction == 1.0


def test_the_papers_stage2_updates_once_with_all_episodes(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    spec = dataclasses.replace(ablation_config("paper_stage2", [], "demo").stage2, num_envs=8)
    env = policy_env(classifier, scenes, spec)

    agent = new_agent(env, spec, seed=0)

    assert isinstance(agent, PPOGRU) and isinstance(agent.policy, GlimpseGRUPolicy)
    assert agent.n_steps == classifier.spec.num_glimpses - 1
    assert agent.batch_size == agent.n_steps * 8 and agent.n_epochs == 1
    assert agent.lr_schedule(0.0) == agent.lr_schedule(1.0) == 3e-4
    assert agent.policy.features_extractor.vectors == []  # nothing but the feature maps
    agent.policy.train()
    far = torch.full((8, 2), 3.0, requires_grad=True)
    agent.policy.action_net[-1](far).sum().backward()
    assert far.grad is not None and torch.allclose(far.grad, 1 - torch.tanh(far.detach()) ** 2)  # nothing pulls
    train_agent(agent, 48, seed=0, action_std_schedule=spec.action_std_schedule)
    assert agent._n_updates == 2


@pytest.mark.parametrize(("name", "times"), [("lr_tenfold", 10.0), ("lr_tenth", 0.1)])
def test_learning_rates_of_the_encoders_are_multiplied(name: str, times: float) -> None:
    full, own = _config("full"), _config(name)
    assert full.stage1 is not None and own.stage1 is not None and full.stage1.global_lr is not None
    assert own.stage1.lr == pytest.approx(times * full.stage1.lr)
    assert own.stage1.global_lr == pytest.approx(times * full.stage1.global_lr)
    assert own.stage3.lr == pytest.approx(times * full.stage3.lr)
    assert (own.stage1.head_lr, own.stage3.head_lr) == (full.stage1.head_lr, full.stage3.head_lr)


@pytest.mark.parametrize(("name", "times"), [("epochs_half", 0.5), ("epochs_more", 1.5)])
def test_epochs_are_the_papers_share(name: str, times: float) -> None:
    full, own = _config("full"), _config(name)
    assert full.stage1 is not None and own.stage1 is not None
    assert (own.stage1.epochs, own.stage3.epochs) == (times * full.stage1.epochs, times * full.stage3.epochs)


def _ablate(out: Path, *names: str) -> int:
    changes = [part for change in SMALL for part in ("--set", change)]
    return main(["ablate", *names, "--out", str(out), "--seeds", "2", "--quiet", *changes])


NAMES = ("full", "two_stages", "random_policy_no_glance", "single_encoder", "centre_corner_policy")


@pytest.mark.slow
def test_table_over_seeds_and_shared_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _ablate(tmp_path, *NAMES) == 0

    rows = json.loads((tmp_path / "ablations.json").read_text())
    assert tuple(rows) == NAMES and all(row["seeds"] == 2 for row in rows.values())
    accuracy = [
        json.loads((tmp_path / "full" / f"seed_{seed}" / "metrics.json").read_text())["accuracy"]["learned"]
        for seed in range(2)
    ]
    assert rows["full"]["mean"] == pytest.approx(torch.tensor(accuracy).double().mean(dim=0).tolist())
    assert rows["full"]["spread"] == pytest.approx(torch.tensor(accuracy).double().std(dim=0).tolist())
    assert (tmp_path / "ablations.md").read_text().count("±") == 4 * len(NAMES)
    policies = [load_file(tmp_path / name / "seed_0/stage2/policy.safetensors") for name in ("full", "two_stages")]
    assert all(torch.equal(policies[0][key], policies[1][key]) for key in policies[0])
    networks = [
        load_file(path) for path in sorted(tmp_path.glob("*/seed_*/initialization/full_resolution.safetensors"))
    ]
    assert len(networks) == 2 * len(NAMES)
    assert all(torch.equal(network[key], networks[0][key]) for network in networks for key in network)
    heads = [load_file(tmp_path / f"full/seed_{seed}/stage1/classifier.safetensors") for seed in range(2)]
    assert not torch.equal(heads[0]["head.cell.weight_ih"], heads[1]["head.cell.weight_ih"])
    assert not (tmp_path / "two_stages/seed_0/stage3").exists()
    assert not (tmp_path / "random_policy_no_glance/seed_0/stage2/policy.safetensors").exists()
    shared = load_file(tmp_path / "single_encoder/seed_0/stage3/classifier.safetensors")
    assert any(key.startswith("global_encoder.") for key in shared)
    assert not any(key.startswith("local_encoder.") for key in shared)  # they are one network, kept once
    assert main(["evaluate", str(tmp_path / "centre_corner_policy/seed_0"), "--quiet"]) == 0

    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/seed_*/**/*.safetensors")}
    assert _ablate(tmp_path, *NAMES) == 0  # all are done
    assert json.loads((tmp_path / "ablations.json").read_text()) == rows
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert main(["ablate", "full", "--out", str(tmp_path), "--seeds", "1", "--quiet"]) == 1  # with other settings
    assert (
        "full-resolution network has begun with data.scenes.height=96, not 192; pass another" in capsys.readouterr().err
    )


def test_any_config_can_be_the_base(tmp_path: Path) -> None:
    sets = ["data.num_train=8", "data.num_val=4", "data.num_test=6", "stage2.num_envs=8", "oracle_grid=0"]
    changes = [part for change in [*sets, "stage2.env_steps=24"] for part in ("--set", change)]

    assert (
        main(
            [
                "ablate",
                "full",
                "paper_stage2",
                "--config",
                "demo",
                "--out",
                str(tmp_path),
                "--seeds",
                "1",
                "--quiet",
                *changes,
            ]
        )
        == 0
    )

    run = load_run_config(tmp_path / "paper_stage2" / "seed_0")
    assert run.start == "shipped" and run.stage2.agent == "ppo_gru" and run.stage2.num_envs == 8
    assert (tmp_path / "ablations.md").read_text().count("±") == 8


def test_unknown_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _ablate(tmp_path, "no_glimpse") == 1

    assert "pass names of full, centre_corner_policy" in capsys.readouterr().err


def test_markdown_of_one_seed_has_no_spread() -> None:
    table = markdown_table([AblationRow("full", (0.5, 0.75), (0.0, 0.0), 1)])

    assert table.splitlines()[-1] == "| full | 0.500 ± 0.000 | 0.750 ± 0.000 |"


def test_a_diverged_run_leaves_the_table_standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Pipeline.run

    def run(pipeline: Pipeline) -> dict[str, Any]:
        name, seed = pipeline.files.path.parts[-2:]
        if name == "lr_tenfold" or (name, seed) == ("lambda_5", "seed_1"):
            raise NotANumberError("the loss became nan in epoch 1, step 1")
        return whole(pipeline)

    monkeypatch.setattr(Pipeline, "run", run)

    assert _ablate(tmp_path, "lambda_5", "lr_tenfold") == 0

    rows = (tmp_path / "ablations.md").read_text().splitlines()[-2:]
    assert rows[0].startswith("| lambda_5 (1 diverged) | 0.") and rows[0].count("±") == 4
    assert rows[1] == "| lr_tenfold (2 diverged) | diverged | diverged | diverged | diverged |"
