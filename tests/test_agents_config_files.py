from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agents.runs.config_files import dump_config, load_config, parse_config, shipped_configs
from agents.runs.yaml_text import ConfigError


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_are_valid_and_survive_the_disk(name: str) -> None:
    config = load_config(name)

    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_changes_from_the_command_line() -> None:
    config = load_config(
        "demo", ["stage2.env_steps=10", "seed=3", "stage2.episode.reward=increment", "data.scenes.seed=5"]
    )

    assert (config.stage2.env_steps, config.seed, config.stage2.episode.reward) == (10, 3, "increment")
    assert config.data.scenes.seed == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stage2.env_step=10", "config key 'stage2.env_step' is unknown: did you mean 'stage2.env_steps'"),
        ("sede=1", "config key 'sede' is unknown: did you mean 'seed'"),
        ("data.scenes.hight=100", "did you mean 'data.scenes.height'"),
        ("stage2.env_steps=many", "config stage2.env_steps: .*integer.*got 'many'"),
        ("stage2.env_steps=-1", "config stage2: env_steps=-1, num_envs=None; pass 1 or more of each"),
        ("stage2.agent=dqn2", "agent='dqn2' is unknown; pass one of ppo, ppo_gru"),
        ("stage2.episode.reward=best", "reward='best' is unknown"),
        ("classifier.encoder=resnet1", "classifier.encoder='resnet1', but the networks of start .* 'small_resnet'"),
        ("data.kind=images", "kind='images' is unknown; pass one of synthetic_signs, image_folder"),
        ("data.num_train=null", "num_train is missing; say how many scenes to draw"),
        ("start=null", "config classifier: Field required; or pass `start: RUN` to take"),
        ("stage3.lr=.nan", "config stage3.lr: got nan; pass a finite number"),
        ("seed", "--set 'seed'; pass key=value"),
        ("seed.deep=1", "'seed' is a value, not a group of keys"),
        ("seed=[1", "the value is not YAML"),
    ],
)
def test_wrong_changes_are_refused_with_one_clear_sentence(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load_config("demo", ["seed=0", change])
    assert "\n" not in str(error.value)


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config 'synthetic_sign': did you mean 'synthetic_signs'"):
        load_config("synthetic_sign")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(ConfigError, match=r"broken.yaml, line 1, column 6: expected"):
        load_config(str(broken))
    broken.write_text("- 1")
    with pytest.raises(ConfigError, match="holds a list; a config is a mapping"):
        load_config(str(broken))
    broken.write_text("seed: 1")
    with pytest.raises(ConfigError, match="config data: Field required"):
        load_config(str(broken))
