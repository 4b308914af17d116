"""The settings of a config by their dotted keys, such as `stage2.env_steps`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from agents.runs.config import RunConfig


def changed_settings(before: RunConfig, now: RunConfig) -> list[str]:
    """Keys of the values that differ between two configs."""
    left, right = _flat(dataclasses.asdict(before)), _flat(dataclasses.asdict(now))
    return [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]


def setting(config: Any, key: str) -> Any:
    """A value or a group by its key; None if its group is left out.

    Args:
        config: a config or a part of one.
        key: relative to it; an empty one is the config itself.

    Returns:
        The setting.
    """
    found = config
    for name in filter(None, key.split(".")):
        found = found.get(name) if isinstance(found, dict) else getattr(found, name, None)
    return found


def is_default(config: RunConfig, key: str) -> bool:
    """Whether a setting of a config has its default value, or its group is left out."""
    group, _, name = key.rpartition(".")
    owner = setting(config, group)
    if owner is None:
        return True
    field = next(field for field in dataclasses.fields(owner) if field.name == name)
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return bool(getattr(owner, name) == default)


def is_below(key: str, groups: Collection[str]) -> bool:
    """Whether a key is one of some settings, or lies in one of them that is a group."""
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return values
