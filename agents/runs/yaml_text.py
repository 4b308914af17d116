"""YAML as configs and `--set` use it: strict about duplicate keys, and errors say where they are."""

from __future__ import annotations

import re
from typing import Any

import yaml

from classifiers.checks import shortened


class ConfigError(ValueError):
    """A config or a setting is invalid."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that also reads `1e-3` as a number and rejects keys that are given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else None)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str, where: str) -> Any:
    """Parses YAML without executing code.

    Args:
        text: the YAML.
        where: what to call it in an error, for example its file.

    Returns:
        Its content.

    Raises:
        ConfigError: if it is not YAML; says on which line and column.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise ConfigError(f"{where}{place}: {shortened(error.problem or 'this is not YAML')}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a character, a date or a depth that can't be
        raise ConfigError(f"{where} is not YAML: {shortened(str(error).splitlines()[0])}") from error


def parse_setting(text: str) -> tuple[str, Any]:
    """Splits one `--set` argument, `key=value`.

    Args:
        text: the argument; its value is YAML.

    Returns:
        The key and the value.

    Raises:
        ConfigError: if it has no key, no `=`, or its value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {shortened(repr(text))}; pass key=value, for example --set seed=1")
    try:
        return key, parse_yaml(value, "")
    except ConfigError as error:
        raise ConfigError(f"--set {shortened(repr(text))}: the value is not YAML; put it in quotes?") from error


def with_short_values(message: str) -> str:
    """A message whose quoted values and numbers are cut to a readable length."""
    return re.sub(r"'[^']{60,}'|\[[^\[\]]{60,}\]|\d{60,}", lambda found: shortened(found.group()), message)
