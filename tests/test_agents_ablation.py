"""The programs of Tables 2, 3, 5 and 8: every variant is what its name says, and stages are shared."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ablation
import numpy as np
import patch_sizes
import pytest
import torch
from ablation import FULL, markdown_table, variant
from safetensors.torch import load_file

from agents.algorithms.ppo_gru import PPOGRU
from agents.algorithms.stage2 import train_agent
from agents.policies.gru import GlimpseGRUPolicy
from agents.runs.pipeline import Pipeline
from agents.runs.run import new_agent, policy_env
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.training.loop import NonFiniteLossError

FEW = [
    *("data.num_train=16", "data.num_val=6", "data.num_test=6", "stage1.epochs=1"),
    *("stage2.num_envs=8", "stage2.env_steps=24", "stage2.options.n_steps=3", "oracle_grid=0", "fixed_place_grid=0"),
    "initialization.full_resolution.epochs=1",
    *("initialization.low_resolution.epochs=1", "data.scenes.height=96", "data.scenes.width=128"),
]
REWARDS = {"increment_reward", "contrastive_reward"}
PAPER = {"paper_stage2", "paper_stage2_increment"}


def _run(monkeypatch: pytest.MonkeyPatch, program: Any, *words: str, changes: list[str] = FEW) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *words, *[part for each in changes for part in ("--set", each)]])
    program.main()


@pytest.mark.parametrize("base", ["demo", "resnet50_96"])
def test_rewards_and_the_papers_stage2_change_stage2_of_any_config(base: str) -> None:
    of = {name: variant(name, base, []) for name in ("full", *REWARDS, *PAPER)}

    for config in of.values():
        assert config.replace(stage2=of["full"].stage2) == of["full"]
    for name in REWARDS:
        episode = of["full"].stage2.episode.replace(reward=name.removesuffix("_reward"))
        assert of[name].stage2 == of["full"].stage2.replace(episode=episode)
    paper, increment = of["paper_stage2"].stage2, of["paper_stage2_increment"].stage2
    assert increment.replace(episode=paper.episode) == paper
    assert (paper.episode.reward, increment.episode.reward) == ("contrastive", "increment")


def test_the_papers_stage2_updates_once_with_all_episodes(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    spec = variant("paper_stage2", "demo", []).stage2.replace(num_envs=8)
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
    assert far.grad is not None and torch.allclose(far.grad, 1 - torch.tanh(far.detach()) ** 2)  # no penalty
    train_agent(agent, 48, seed=0, action_std_schedule=spec.action_std_schedule)
    assert agent._n_updates == 2


def test_the_table_has_means_deviations_and_who_diverged() -> None:
    table = markdown_table({"full": [[0.5, 0.75], [0.7, 0.75]], "lambda_5": [[0.25, 1.0]], "lr_tenfold": []}, 2)

    assert table.splitlines()[2:] == [
        "| full | 0.600 ± 0.141 | 0.750 ± 0.000 |",
        "| lambda_5 (1 diverged) | 0.250 | 1.000 |",
        "| lr_tenfold (2 diverged) | - | - |",
    ]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no_glimpse"):
        variant("no_glimpse", FULL, [])


@pytest.mark.slow
def test_runs_share_stages_and_a_diverged_one_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Pipeline.run

    def run(pipeline: Pipeline, *policies: Any) -> dict[str, Any]:
        if pipeline.files.path.parent.name == "lr_tenfold":
            raise NonFiniteLossError("the loss became nan")
        return whole(pipeline, *policies)

    monkeypatch.setattr(Pipeline, "run", run)
    names = ("full", "two_stages", "random_policy_no_glance", "single_encoder", "lr_tenfold")

    _run(monkeypatch, ablation, *names, "--out", str(tmp_path), "--seeds", "2")

    rows = json.loads((tmp_path / "ablations.json").read_text())
    assert [len(row) for row in rows.values()] == [2, 2, 2, 2, 0]
    policies = [load_file(tmp_path / name / "seed_0/stage2/policy.safetensors") for name in ("full", "two_stages")]
    assert all(torch.equal(policies[0][key], policies[1][key]) for key in policies[0])
    networks = [load_file(path) for path in tmp_path.glob("*/seed_*/initialization/full_resolution.safetensors")]
    assert len(networks) == 2 * len(names)
    assert all(torch.equal(network[key], networks[0][key]) for network in networks for key in network)
    heads = [load_file(tmp_path / f"full/seed_{seed}/stage1/classifier.safetensors") for seed in range(2)]
    assert not torch.equal(heads[0]["head.cell.weight_ih"], heads[1]["head.cell.weight_ih"])
    assert not (tmp_path / "two_stages/seed_0/stage3").exists()
    shared = load_file(tmp_path / "single_encoder/seed_0/stage3/classifier.safetensors")
    assert not any(key.startswith("local_encoder.") for key in shared)  # they are one network, kept once

    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/seed_*/**/*.safetensors")}
    _run(monkeypatch, ablation, *names, "--out", str(tmp_path), "--seeds", "2")  # all are done
    assert json.loads((tmp_path / "ablations.json").read_text()) == rows
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.slow
def test_patch_sizes_are_judged_at_equal_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [change for change in FEW if not change.startswith(("data.scenes", "initialization"))]
    changes += ["stage3.epochs=1", "classifier.patch_sizes=[24, 40]", "classifier.num_glimpses=3"]
    words = ("ms_synthetic_signs_sizes", "--out", str(tmp_path), "--seeds", "1", "--no-genetic")

    _run(monkeypatch, patch_sizes, *words, changes=changes)

    runs = sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*/metrics.json"))
    assert runs == ["24/seed_0", "40/seed_0", "several/seed_0"]
    table = json.loads((tmp_path / "sizes.json").read_text())
    kinds = ("patches of 24", "patches of 40", "several sizes, coordinate ascent", "several sizes, upper bound")
    assert tuple(table["accuracy"]) == kinds and table["budgets"] == sorted(table["budgets"])
    for values in table["accuracy"].values():
        assert np.shape(values) == (1, patch_sizes.NUM_BUDGETS) and 0.0 <= np.min(values) <= np.max(values) <= 1.0
