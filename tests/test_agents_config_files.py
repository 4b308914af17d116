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
        ("stage2.env_steps=-1", "config stage2: env_steps=-1; pass 1 or more"),
        ("stage2.agent=dqn2", "agent='dqn2' is unknown; did you mean 'dqn'. pass one of ppo, ppo_gru"),
        ("stage2.episode.reward=best", "reward='best' is unknown"),
        ("classifier.encoder=resnet1", "classifier.encoder='resnet1', but the networks of start .* 'small_resnet'"),
        ("data.kind=images", "kind='images' is unknown; pass one of synthetic_signs, image_folder"),
        ("data.num_train=null", "num_train is missing; say how many to draw"),
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


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        ("demo", ["classifier.head=cascade"], "have 'gru'; pass classifier=null to take theirs"),
        ("demo", ["stage1={epochs: 3}"], "config stage1 changes nothing: the networks come from start"),
        ("demo", ["stage3.lr=0.5"], "config stage3.lr changes nothing: stage3.epochs is 0"),
        ("demo", ["data.height=64"], "config data.height changes nothing: data.kind is synthetic_signs"),
        ("demo", ["data.train_crop=[0.1, 1]"], "config data.train_crop changes nothing: data.kind is synthetic_signs"),
        ("demo", ["data.root=x"], "config data.root changes nothing"),
        ("demo", ["stage2.episode.reward_samples=3"], "reward_samples changes nothing: stage2.episode.reward is incr"),
        ("demo", ["agent.name=random", "stage2.evaluations=3"], "evaluations changes nothing: stage2.agent is random"),
        ("demo", ["agent.name=random", "stage2.num_envs=3"], "num_envs changes nothing: stage2.agent is random"),
        (
            "demo",
            ["agent.name=dqn", "stage2.action_std_schedule=[1, 1]"],
            "schedule changes nothing: stage2.agent is dqn",
        ),
        ("image_folder", ["data.scenes.seed=3"], "config data.scenes.seed changes nothing: data.kind is image_folder"),
        ("synthetic_signs", ["start_stage=1"], "config start_stage changes nothing: there is no start"),
        ("synthetic_signs", ["start=shipped", "stage1.epochs=9"], "config stage1.epochs changes nothing"),
        (
            "synthetic_signs",
            ["start=shipped", "initialization.weights=DEFAULT"],
            "weights changes nothing|Field required",
        ),
        (
            "synthetic_signs",
            ["initialization.full_resolution.head_lr=1"],
            "head_lr changes nothing: it belongs to stages",
        ),
        ("synthetic_signs", ["classifier.head=average", "classifier.hidden_size=9"], "hidden_size changes nothing"),
        ("synthetic_signs", ["classifier.shares_encoder=true", "stage1.global_lr=9"], "global_lr changes nothing"),
    ],
)
def test_settings_that_change_nothing_are_refused(config: str, changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(config, changes)


def test_the_networks_of_start_decide_the_classifier() -> None:
    demo = load_config("demo")
    signs = load_config("synthetic_signs", ["start=shipped"])

    assert demo.classifier == signs.classifier == load_config("synthetic_signs").classifier
    assert signs.initialization is None and signs.stage1 is None
    assert load_config("synthetic_signs", ["start=shipped", "start_stage=1"]).stage1 is not None
    assert load_config("demo", ["classifier={patch_size: 48}"]) == demo


@pytest.mark.parametrize("name", shipped_configs())
def test_a_written_config_is_accepted_again(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(dump_config(load_config(name)))

    assert load_config(str(tmp_path / "config.yaml")) == load_config(name)


@pytest.mark.parametrize("change", ["stage3.epochs=true", "seed=true", "stage2.env_steps=false", "data.num_train=yes"])
def test_booleans_are_no_numbers(change: str) -> None:
    with pytest.raises(ConfigError, match=r"config \S+: got (true|false); pass a value that is not true or false"):
        load_config("demo", [change])


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_numbers_are_finite(value: str) -> None:
    for key in ("stage3.lr", "stage2.options.gamma", "stage2.policy_options.extractor.units"):
        with pytest.raises(ConfigError, match=rf"config {key}: got -?(nan|inf); pass a finite number"):
            load_config("demo", [f"{key}={value}"])


def test_optional_booleans_may_be_given() -> None:
    for text, value in (("true", True), ("false", False), ("null", None)):
        assert load_config("demo", [f"stage2.compile={text}"]).stage2.compile is value


def test_numbers_may_lack_a_point() -> None:
    assert load_config("demo", ["stage2.options.learning_rate=1e-3"]).stage2.options == {"learning_rate": 1e-3}


def test_long_values_are_cut() -> None:
    for change in (
        "seed=" + "x" * 5000,
        "stage2.agent=" + "y" * 5000,
        "x" * 5000,
        "a=[" + "1," * 5000,
        "k" * 999 + "=1",
    ):
        with pytest.raises(ConfigError, match=r" \.\.\. ") as error:
            load_config("demo", [change])
        assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\ndata:\n  kind: a\n  kind: b\n", r"x.yaml, line 4, column 3: key 'kind' is given twice"),
        ("seed: 1\n\tdata: 2\n", r"x.yaml, line 2, column 1: found character"),
        ("seed: [1\ndata: 2", r"x.yaml, line 2, column 5"),
        ("a: 2020-13-45", r"x.yaml is not YAML: month must be in 1..12"),
        ("a: " + "[" * 5000, r"x.yaml(, line 1, column \d+| is not YAML): "),
        ("a: !!python/object:os.system {}", r"x.yaml, line 1, column 4: could not determine"),
    ],
)
def test_yaml_errors_say_where_they_are(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)

    with pytest.raises(ConfigError, match=message) as error:
        load_config(str(tmp_path / "x.yaml"))
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
