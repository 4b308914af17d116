"""Settings of stage II that can't work are reported in one sentence before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.algorithms.registry import AGENTS
from agents.policies.baselines import FIXED_POLICIES
from agents.runs.config_files import load_config
from agents.runs.dry_run import check_stage2
from scripts.cli import main

BAD = [
    # (changes, the key that the message names)
    ("stage2.options.gamma=abc", "stage2.options.gamma='abc': Input should be a valid number"),
    ("stage2.options.gamma=2", "stage2.options.gamma=2; pass a number in [0, 1]"),
    ("stage2.options.gamma=true", "stage2.options.gamma=True"),
    ("stage2.options.gamma=[0.7]", "stage2.options.gamma=[0.7] does not work"),
    ("stage2.options.gamma=.nan", "stage2.options.gamma: got nan; pass a finite number"),
    ("stage2.options.gae_lambda=-1", "stage2.options.gae_lambda=-1; pass a number in [0, 1]"),
    ("stage2.options.n_epochs=0", "stage2.options.n_epochs=0; pass 1 or more"),
    ("stage2.options.n_epochs=1.5", "stage2.options.n_epochs=1.5: Input should be a valid integer"),
    ("stage2.options.n_epochs=true", "stage2.options.n_epochs=True"),
    ("stage2.options.learning_rate=abc", "stage2.options.learning_rate='abc'"),
    ("stage2.options.learning_rate=-1", "stage2.options.learning_rate=-1 does not work: Invalid learning rate"),
    ("stage2.options.learning_rate=1e30", "stage2.options.learning_rate=1e+30 does not work"),
    ("stage2.options.clip_range=null", "stage2.options.clip_range=None"),
    ("stage2.options.ent_coef=high", "stage2.options.ent_coef='high'"),
    ("stage2.options.vf_coef=[1]", "stage2.options.vf_coef=[1] does not work"),
    ("stage2.options.max_grad_norm=x", "stage2.options.max_grad_norm='x'"),
    ("stage2.options.n_steps=0", "stage2.options.n_steps=0; pass 1 or more"),
    ("stage2.options.n_steps=three", "stage2.options.n_steps='three'"),
    ("stage2.options.n_steps=1000000000000", "stage2.options.n_steps=1000000000000 does not work"),
    ("stage2.num_envs=1;stage2.options.n_steps=1", "stage2.options.n_steps=1 does not work"),
    ("stage2.options.batch_size=0", "stage2.options.batch_size=0; pass 1 or more"),
    ("stage2.options.batch_size=1", "stage2.options.batch_size=1 does not work"),
    ("stage2.options.normalize_advantage=maybe", "stage2.options.normalize_advantage='maybe'"),
    ("stage2.options.target_kl=soon", "stage2.options.target_kl='soon'"),
    ("stage2.options.learning_rat=0.1", "did you mean 'learning_rate'?"),
    ("stage2.options.seed=3", "stage2.options.seed is set by the run itself"),
    ("stage2.options.device=cpu", "stage2.options.device is set by the run itself"),
    ("stage2.options=3", "stage2.options: Input should be a valid dictionary"),
    ("stage2.policy_options.extractor={units: -1}", "stage2.policy_options.extractor.units=-1; pass 1 or more"),
    ("stage2.policy_options.extractor={units: true}", "stage2.policy_options.extractor.units=True"),
    ("stage2.policy_options.extractor={unit: 3}", "stage2.policy_options.extractor.unit=3 does not work"),
    ("stage2.policy_options.extractor=conv9", "pass one of fc_1024"),
    ("stage2.policy_options.extractor={conv_kernel: 2}", "stage2.policy_options.extractor.conv_kernel=2 does not"),
    ("stage2.policy_options.extractor={attention_maps: -2}", "extractor.attention_maps=-2; pass 0 or more"),
    ("stage2.policy_options.std=-1", "stage2.policy_options.std=-1; pass"),
    ("stage2.policy_options.stdd=1", "stage2.policy_options.stdd=1 does not work"),
    ("stage2.policy_options.net_arch=[64]", "stage2.policy_options.net_arch changes nothing"),
    ("stage2.policy_options.optimizer_kwargs={eps: x}", "policy_options.optimizer_kwargs.eps='x' does not work"),
    ("classifier.glance_size=500", "config glance_size=500 exceeds the 192x256 image"),
    ("classifier.patch_size=200", "config patch_size=200 exceeds the 192x256 image"),
    ("classifier.num_glimpses=1", "num_glimpses=1 is too small; pass 2 or more"),
    ("stage2.num_envs=1000000000000", "stage2.num_envs=1000000000000 does not work"),
    ("stage2.num_envs=1.5", "stage2.num_envs: Input should be a valid integer"),
    ("stage2.action_std_schedule=[0.1, x]", "stage2.action_std_schedule.1: Input should be a valid number"),
    ("device=gpu", "device='gpu' can't be used on this machine"),
    ("agent.name=dqn;stage2.options.buffer_size=0", "stage2.options.buffer_size=0; pass 1 or more"),
    ("agent.name=dqn;stage2.options.train_freq=[1, year]", "stage2.options.train_freq=[1, 'year'] does not work"),
    ("agent.name=dqn;stage2.policy_options.net_arch=[-3]", "stage2.policy_options.net_arch=[-3] does not work"),
    ("agent.name=sac;stage2.options.ent_coef=high", "stage2.options.ent_coef='high' does not work"),
    ("agent.name=trpo;stage2.options.cg_damping=x", "stage2.options.cg_damping='x'"),
    ("agent.name=td3;stage2.options.action_noise=x", "stage2.options.action_noise='x'"),
    ("agent.name=ars;stage2.options.n_delta=0", "stage2.options.n_delta=0; pass 1 or more"),
    ("agent.name=recurrent_ppo;stage2.policy_options.lstm_hidden_size=-1", "lstm_hidden_size=-1 does not work"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[changes for changes, _ in BAD])
def test_bad_settings_fail_before_anything_trains(
    changes: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [part for change in changes.split(";") for part in ("--set", change)]

    assert main(["demo", "--out", str(tmp_path / "run"), "--quiet", *sets]) == 1

    error = capsys.readouterr().err
    assert message in error and error.startswith("gfnet: config ") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("agent", [*AGENTS, *FIXED_POLICIES])
@pytest.mark.parametrize("num_glimpses", [2, 4])
def test_every_agent_can_be_tried_out(agent: str, num_glimpses: int) -> None:
    check_stage2(load_config("demo", [f"agent.name={agent}", f"classifier.num_glimpses={num_glimpses}"]))


@pytest.mark.parametrize("name", ["synthetic_signs", "image_folder", "mobilenetv3_large_100_96"])
def test_shipped_settings_work(name: str) -> None:
    check_stage2(load_config(name))
