"""Configs of any content: valid ones survive YAML, others are one sentence, whatever was written there."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import yaml
from hypothesis import strategies as st
from properties import check_sentence, examples, holds

from agents.runs.config_files import ConfigError, dump_config, load_config, parse_config, parse_yaml

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 400),
    st.floats(allow_nan=False),  # which equals nothing, itself neither
    st.floats(0.0, 1.0),
    st.text(max_size=12),
    st.sampled_from(
        ["ppo", "random", "gru", "synthetic_signs", "image_folder", "sgd", "1e-3", "DEFAULT", "pretrained"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


@cache
def _bases() -> tuple[dict[str, Any], ...]:
    names = ("demo", "synthetic_signs", "ms_synthetic_signs", "imagenette", "resnet50_96")
    return tuple(parse_yaml(dump_config(load_config(name)), name) for name in names)


def _keys(tree: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all keys of a config, groups included."""
    if not isinstance(tree, dict):
        return []
    return [path for key, value in tree.items() for path in [(*above, key), *_keys(value, (*above, key))]]


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """A built-in config of which a few keys were changed, removed or added; or anything at all."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.dictionaries(st.text(max_size=10), VALUES, max_size=5))
    tree = copy.deepcopy(draw(st.sampled_from(_bases())))
    for _ in range(draw(st.integers(0, 3))):
        *groups, last = draw(st.sampled_from(_keys(tree)))
        group = tree
        for name in groups:
            group = group[name]
        kind = draw(st.sampled_from(["change", "change", "change", "remove", "add"]))
        if kind == "remove":
            del group[last]
        else:
            key = last if kind == "change" else draw(st.text(max_size=8))
            group[key] = draw(VALUES)
    return tree


@examples(40, 400)
def test_a_tree_is_a_config_that_survives_yaml_or_one_sentence(count: int) -> None:
    kinds = set()

    @holds(count, tree=trees())
    def check(tree: dict[str, Any]) -> None:
        before = copy.deepcopy(tree)
        try:
            config = parse_config(tree)
        except ConfigError as error:
            check_sentence(error)
            kinds.add("refused")
            return
        kinds.add("accepted")
        assert repr(tree) == repr(before)
        assert parse_config(parse_yaml(dump_config(config), "dumped")) == config

    assert kinds == {"refused", "accepted"}


@examples(40, 300)
def test_a_change_is_taken_or_one_sentence(count: int) -> None:
    keys = [".".join(path) for path in _keys(_bases()[1])]

    @holds(
        count,
        key=st.one_of(st.sampled_from(keys), st.text(max_size=12)),
        value=st.one_of(VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True)), st.text(max_size=12)),
    )
    def check(key: str, value: str) -> None:
        try:
            config = load_config("synthetic_signs", [f"{key}={value}"])
        except (ConfigError, FileNotFoundError) as error:
            check_sentence(error)
        else:
            assert parse_config(parse_yaml(dump_config(config), "dumped")) == config
