"""Stage II is tried out before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.algorithms.registry import AGENTS
from agents.policies.baselines import FIXED_POLICIES
from agents.runs.config_files import ConfigError, load_config
from agents.runs.policy_training import check_stage2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["stage2.options.learning_rat=0.1"], "stage2.options.learning_rat.*learning_rate"),
        (["stage2.policy_options.extractor={unit: 3}"], "stage2.policy_options.extractor.unit.*units"),
        (["stage2.policy_options.extractor=conv9"], "conv9"),
        (["classifier.glance_size=500"], "glance_size=500"),
        (["classifier.patch_size=200"], "patch_size=200"),
        (["device=gpu"], "gpu"),
    ],
)
def test_our_own_checks_are_one_sentence(changes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        check_stage2(load_config("demo", changes))
    assert "\n" not in str(error.value)


def test_what_an_algorithm_raises_is_not_caught(tmp_path: Path) -> None:
    """Before anything trains, and as it is: SB3's own exception, with its traceback."""
    for change in ("stage2.options.gamma=abc", "stage2.options.learning_rate=-1"):
        with pytest.raises((TypeError, ValueError)) as error:
            check_stage2(load_config("demo", [change]))
        assert not isinstance(error.value, ConfigError)


@pytest.mark.parametrize("agent", [*AGENTS, *FIXED_POLICIES])
def test_every_agent_can_be_tried_out(agent: str) -> None:
    check_stage2(load_config("demo", [f"stage2.agent={agent}", "classifier.num_glimpses=2"]))


@pytest.mark.parametrize("name", ["synthetic_signs", "image_folder"])
def test_shipped_settings_work(name: str) -> None:
    check_stage2(load_config(name))
