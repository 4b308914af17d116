"""Images that belong together are in one split."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.runs.config_files import ConfigError, load_config
from agents.runs.log import Reporter
from agents.runs.pipeline import Pipeline
from classifiers.data.registry import ImageFolder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for split, numbers in {"train": "012", "val": "23", "test": "4"}.items():
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in numbers:
                (tmp_path / split / name / f"day{number}_{split}.jpg").touch()
    return tmp_path


def test_a_pattern_names_the_groups(tree: Path) -> None:
    ImageFolder(root=tree).check_groups()
    ImageFolder(root=tree, groups=r"day[0134]").check_groups()  # what it doesn't match is alone
    with pytest.raises(ValueError, match=r"several splits: 'cat/day2' \(train, val\), 'dog/day2' \(train, val\); move"):
        ImageFolder(root=tree, groups=r"(.*)_").check_groups()
    with pytest.raises(ValueError, match=r": 'day2' \(train, val\);"):
        ImageFolder(root=tree, groups=r"day\d").check_groups()
    with pytest.raises(ValueError, match=r"data.groups='holiday' .*'dog/day4_test.jpg'"):
        ImageFolder(root=tree, groups="holiday").check_groups()
    with pytest.raises(ConfigError, match=r"data.groups"):
        load_config("image_folder", [f"data.root={tree}", "data.groups=(day"])


def test_a_table_names_the_groups(tree: Path) -> None:
    table = tree / "groups.csv"
    table.write_text("file,group\ntrain/cat/day0_train.jpg,a\nval/dog/day2_val.jpg,b\n")
    ImageFolder(root=tree).check_groups()
    with table.open("a") as stream:
        stream.write("test/cat/day4_test.jpg,a\n")
    with pytest.raises(ValueError, match=r"groups.csv are in several splits: 'a' \(train, test\);"):
        ImageFolder(root=tree).check_groups()
    for text, error, message in (
        ("file,group\ntrain/cat/no.jpg,a\n", FileNotFoundError, "line 2: 'train/cat/no.jpg'"),
        ("file,group\ntrain/cat/day0_train.jpg,\n", ValueError, "line 2: the group"),
        ("file,kind\n", ValueError, "columns file, kind"),
    ):
        table.write_text(text)
        with pytest.raises(error, match=message):
            ImageFolder(root=tree).check_groups()


def test_a_training_refuses_shared_groups_before_anything_else(tree: Path, tmp_path: Path) -> None:
    class Silent(Reporter):
        def note(self, text: str) -> None:
            raise AssertionError(text)

    sizes = ["data.height=96", "data.width=96"]
    config = load_config("image_folder", [f"data.root={tree}", r"data.groups=day\d", *sizes])

    with pytest.raises(ValueError, match="'day2'"):
        Pipeline(config, tmp_path / "run", Silent()).run()
