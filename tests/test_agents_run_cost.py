"""`gfnet cost`: Table 6 to the last digit that it prints."""

from __future__ import annotations

import json

import pytest

from agents.policies.extractor import PROPOSAL_NETWORKS
from agents.runs.config_files import load_config
from agents.runs.run import run_policy
from classifiers.data.source import default_class_names
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.glance_focus import GlanceFocusClassifier
from scripts.cli import main

TABLE_6 = {
    "fc_1024": 46.1,
    "fc_512": 40.4,
    "fc_256": 38.7,
    "conv3x3_32": 5.8,
    "conv1x1_64": 1.7,
    "conv1x1_32": 1.1,
    "conv1x1_16": 0.7,
}


def test_command_prints_the_papers_resnet50(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "resnet50_96", "--json"]) == 0

    cost = json.loads(capsys.readouterr().out)
    assert cost["encoder"] == 750_698_496
    assert cost["head"] == [10_461_184] * 5
    assert cost["policy"] == 46_139_392
    assert cost["per_step"] == [761_159_680, *[807_299_072] * 4]
    assert cost["cumulative"][-1] == sum(cost["per_step"])


def test_command_prints_the_papers_mobilenet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "mobilenetv3_large_100_96"]) == 0

    table = capsys.readouterr().out
    assert all(f"{count:,}" in table for count in (41_780_160, 1_280_000, 2 * 1_280_000, 3 * 1_280_000))
    assert "43,060,160" in table and "743,936" in table


@pytest.fixture(scope="module")
def resnet50() -> FrozenClassifier:
    return frozen(GlanceFocusClassifier(load_config("resnet50_96").classifier, 1000))


@pytest.mark.parametrize("name", PROPOSAL_NETWORKS)
def test_policies_of_table_6(name: str, resnet50: FrozenClassifier) -> None:
    config = load_config("resnet50_96", [f"stage2.policy_options.extractor={name}"])

    policy = run_policy(config, resnet50, default_class_names(1000), None)

    assert round(policy.multiply_adds / 1e6, 1) == TABLE_6[name]
