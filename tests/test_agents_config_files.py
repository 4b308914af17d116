from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import yaml

from agents.runs.config_files import CONFIGS, ConfigError, built_in_configs, dump_config, load_config, parse_config
from agents.runs.results import chosen_policies
from classifiers.data.registry import COLLECTIONS, ImageFolder


@pytest.mark.parametrize("name", built_in_configs())
def test_built_in_configs_are_valid_and_survive_the_disk(name: str) -> None:
    config = load_config(name)

    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_changes_from_the_command_line() -> None:
    config = load_config(
        "demo", ["stage2.env_steps=10", "seed=3", "stage2.episode.reward=increment", "data.scenes.seed=5"]
    )

    assert (config.stage2.env_steps, config.seed, config.stage2.episode.reward) == (10, 3, "increment")
    assert config.data.scenes.seed == 5
    assert load_config("demo", ["stage2.options.learning_rate=1e-3"]).stage2.options == {"learning_rate": 1e-3}
    for text, value in (("true", True), ("false", False), ("null", None)):
        assert load_config("demo", [f"stage2.compile={text}"]).stage2.compile is value


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        ("demo", "stage2.env_step=10", "stage2.env_step is unknown.*'stage2.env_steps'"),
        ("demo", "sede=1", "sede is unknown.*'seed'"),
        (
            "demo",
            "agent.learning_rate=1e-4",
            "agent.learning_rate is unknown: did you mean 'stage2.options.learning_rate'",
        ),
        ("demo", "agent.name=ppo", "agent.name is unknown: did you mean 'stage2.agent'"),
        ("demo", "env_steps=10", "env_steps is unknown: did you mean 'stage2.env_steps'"),
        ("demo", "stage2.seed=1", "stage2.seed is unknown: did you mean 'seed'"),
        ("demo", "agent={name: ppo, lr: 1}", "agent.name is unknown: did you mean 'stage2.agent'"),
        ("demo", "data.height=64", "data.height is unknown: known are kind"),
        ("demo", "data.scenes.hight=100", "data.scenes.hight.*'data.scenes.height'"),
        ("demo", "stage2.env_steps=many", "stage2.env_steps='many'"),
        ("demo", "stage2.env_steps=-1", "stage2.env_steps=-1"),
        ("demo", "stage2.agent=dqn2", "stage2.agent='dqn2'.*'dqn'"),
        ("demo", "stage2.episode.reward=best", "stage2.episode.reward='best'"),
        ("demo", "stage2.episode.reward_samples=3", "reward_samples=3"),
        ("demo", "stage2.episode.size_action=true", "size_action"),
        ("demo", "stage2.episode.stop_action=true", "stop_action"),
        ("demo", "classifier={patch_size: 40, patch_sizes: [32, 48]}", "patch_size.*patch_sizes"),
        ("demo", "classifier.patch_sizes=[32, 48]", "glance_size"),
        ("demo", "stage2.action_std_schedule=[0.1]", "stage2.action_std_schedule"),
        ("demo", "stage2=3", "stage2=3"),
        ("demo", "classifier.encoder=resnet1", "classifier.encoder='resnet1'"),
        ("demo", "classifier.head=cascade", "classifier.head='cascade'"),
        ("demo", "data.kind=images", "kind='images'"),
        ("demo", "data.num_train=null", "data.num_train"),
        ("demo", "data.num_train=20.0", "data.num_train=20.0"),
        ("image_folder", "data.scenes.seed=3", "data.scenes is unknown"),
        ("demo", "start=null", "classifier is missing.*start"),
        ("demo", "stage1={epochs: 3}", "stage1"),
        ("demo", "rounds=2", "stage3.epochs=0"),
        ("demo", "fixed_place_grid=1", "fixed_place_grid"),
        ("synthetic_signs", "start_stage=1", "start_stage=1"),
        ("synthetic_signs", "initialization.full_resolution.head_lr=1", "full_resolution.head_lr"),
        ("synthetic_signs", "initialization.low_resolution.frozen_stride=4", "low_resolution.frozen_stride without"),
        ("demo", "seed=true", "seed=True"),
        ("demo", "stage2.compile='false'", "stage2.compile='false'"),
        ("demo", "stage3.lr=.nan", "stage3.lr=nan"),
        ("demo", "stage3.lr=-.inf", "stage3.lr=-inf"),
        ("demo", "seed", "--set 'seed'"),
        ("demo", "seed=" + "x" * 5000, r"^.{1,500}$"),
        ("demo", "seed.deep=1", "seed"),
        ("demo", "seed=[1", "seed"),
        ("synthetic_sign", "seed=1", "'synthetic_sign'.*'synthetic_signs'"),
    ],
)
def test_wrong_changes_are_one_sentence_that_names_the_setting(config: str, change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load_config(config, ["seed=0", change])
    assert "\n" not in str(error.value)


def test_one_change_needs_no_list() -> None:
    assert load_config("demo", "seed=3").seed == 3
    config = load_config(CONFIGS / "synthetic_signs.yaml", "stage1.frozen=head")
    assert config.stage1 is not None and config.stage1.frozen == ("head",)
    assert load_config("demo", "stage2.episode.observe=glance").stage2.episode.observe == ("glance",)
    assert chosen_policies(config, "learned") == ("learned",)


def test_the_networks_of_start_decide_the_classifier() -> None:
    demo = load_config("demo")
    signs = load_config("synthetic_signs", ["start=pretrained"])

    assert demo.classifier == signs.classifier == load_config("synthetic_signs").classifier
    assert signs.initialization is None and signs.stage1 is None
    assert load_config("synthetic_signs", ["start=pretrained", "start_stage=1"]).stage1 is not None
    assert load_config("demo", ["classifier={patch_size: 48}"]) == demo


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\ndata:\n  kind: a\n  kind: b\n", r"x.yaml, line 4, column 3: key 'kind' is given twice"),
        ("seed: 1\n\tdata: 2\n", r"x.yaml, line 2, column 1: found character"),
        ("seed: [1\ndata: 2", r"x.yaml, line 2, column 5"),
        ("- 1", "x.yaml.*list"),
        ("seed: 1", "data is missing"),
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


def test_epochs_that_are_given_later_count_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: image_folder\nstage3: {epochs: 2}\n")
    least = load_config("image_folder").stage3.min_steps
    assert least is not None

    for name, changes, found in (
        ("image_folder", ["stage3.epochs=2"], None),
        ("image_folder", ["stage3.min_steps=9", "stage3.epochs=2"], 9),
        ("image_folder", ["stage1.epochs=2"], least),
        (str(tmp_path / "mine.yaml"), [], None),
        (str(tmp_path / "mine.yaml"), ["stage3.min_steps=9"], 9),
    ):
        assert load_config(name, changes).stage3.min_steps == found


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    for given, path in {"~/tree": "tree", "tree": "tree", "2024": "2024", "a #b": "a #b"}.items():
        assert load_config("image_folder", [f"data.root={given}"]).data.root == tmp_path / path
    for given, kept in {"x.pth": str(tmp_path / "x.pth"), "DEFAULT": "DEFAULT", "package:a": "package:a"}.items():
        initialization = load_config("image_folder", [f"initialization.weights={given}"]).initialization
        assert initialization is not None and initialization.weights == kept


def test_a_kind_of_data_that_a_user_adds_is_a_kind_like_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(ImageFolder):
        kind: Literal["mine"] = "mine"
        shade: int = 0

    monkeypatch.setitem(COLLECTIONS, "mine", Mine)
    config = load_config("image_folder", ["data={kind: mine, shade: 3}"])

    assert isinstance(config.data, Mine) and config.data.shade == 3 and config.data.height == 224
    assert parse_config(yaml.safe_load(dump_config(config))) == config
    with pytest.raises(ConfigError, match=r"data.shade='dark'"):
        load_config("image_folder", ["data={kind: mine, shade: dark}"])
