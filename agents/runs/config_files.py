"""Configs as YAML files: found by name or path, changed from the command line, checked, and written back."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from pathlib import Path
from typing import Any

import pydantic
import yaml

from agents.runs.config import RunConfig

CONFIGS = Path(__file__).parent / "configs"
"""Where the configs lie that come with the package."""


class ConfigError(ValueError):
    """A config is not what it should be."""


def shipped_configs() -> dict[str, Path]:
    """Configs that come with the package, by name; files that begin with `_` are only there to be extended."""
    files = sorted(CONFIGS.glob("*.yaml"))
    return {path.stem: path for path in files if not path.stem.startswith("_")}


def load_config(name_or_path: str, changes: list[str] | None = None) -> RunConfig:
    """Reads a config.

    Args:
        name_or_path: a YAML file, or the name of a shipped one.
        changes: `key.subkey=value` each, the value as YAML.

    Returns:
        The checked config; paths in it (`data.root`, `start`) are absolute, so that a run can be used from anywhere.

    Raises:
        ConfigError: if there is none, or a key or value is wrong; says which, and names a near miss.
    """
    tree = _read_whole(_find(name_or_path))
    for change in changes or []:
        _apply(tree, change)
    config = parse_config(tree)
    root = config.data.root and str(Path(config.data.root).absolute())
    start = config.start if config.start in (None, "shipped") else str(Path(config.start).absolute())
    return dataclasses.replace(config, start=start, data=dataclasses.replace(config.data, root=root))


def parse_config(tree: dict[str, Any]) -> RunConfig:
    """Checks a config that was read already; see `load_config`."""
    tree = _with_sizes_in_classifier(_with_present_names(tree))
    _refuse_unknown(tree, RunConfig, "")
    try:
        return pydantic.TypeAdapter(RunConfig).validate_python(tree)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] in ("value_error", "missing") else f", got {first['input']!r}"
        raise ConfigError(f"config {where + ': ' if where else ''}{message}{got}") from error


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML, every default written out."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def check_same_config(path: Path, config: str) -> None:
    """Refuses to mix two runs in one folder.

    Args:
        path: the `config.yaml` that lies there.
        config: what is to be run, as `dump_config` writes it.

    Raises:
        ConfigError: if a setting differs; says which.
    """
    # read as a config, so that settings which are younger than the run are there, at their defaults
    before, now = yaml.safe_load(dump_config(load_config(str(path)))), yaml.safe_load(config)
    differing = _first_difference(before, now)
    if differing is not None:
        raise ConfigError(
            f"{path.parent} holds a run with another {differing}; pass another --out, or the settings it began with"
        )


def _first_difference(before: Any, now: Any, where: str = "") -> str | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *now]:
            found = _first_difference(before.get(key), now.get(key), f"{where}{key}.")
            if found is not None:
                return found
        return None
    return None if before == now else f"{where.rstrip('.')} ({before}, now {now})"


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if name_or_path in shipped:
        return shipped[name_or_path]
    near = difflib.get_close_matches(name_or_path, shipped, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"no config {name_or_path!r}: {hint}pass a YAML file or one of {', '.join(shipped)}")


def _read_whole(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file and what it `extends`: its own keys win, groups are merged."""
    tree = _read(path)
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if path in above:
        raise ConfigError(f"{path} extends itself; take one `extends` out")
    beside = path.parent / f"{base}.yaml"
    found = beside if beside.is_file() else _find(str(base))
    return _merged(_read_whole(found, (*above, path)), tree)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    whole = dict(base)
    for key, value in own.items():
        inner = whole.get(key)
        whole[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return whole


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds a {type(tree).__name__}; a config is a mapping of keys")
    return tree


_SHORT = {"agent.name": "stage2.agent"}  # what people try first


def _apply(tree: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {change!r}; pass key=value, for example --set stage2.env_steps=10000")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change!r}: the value is not YAML") from error
    *parents, last = _SHORT.get(key, key).split(".")
    for parent in parents:
        inner = tree.setdefault(parent, {})
        if inner is None:
            inner = tree[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {change!r}: {parent!r} is a value, not a group of keys")
        tree = inner
    tree[last] = value


_RENAMED = {
    "part_size": "micro_batch_size",
    "centre_share": "crop_pct",
    "final_lr_share": "final_lr_fraction",
    "stds": "action_std_schedule",
}
_FREE_FORM = ("options", "policy_options")  # arguments of somebody else's classes


def _with_present_names(tree: dict[str, Any]) -> dict[str, Any]:
    """A config with its settings under their present names, so that older runs go on."""
    renamed = {}
    for key, value in tree.items():
        if isinstance(value, dict) and key not in _FREE_FORM:
            value = _with_present_names(value)
        if key == "unreadable" and value == "refuse":
            value = "raise"
        renamed[_RENAMED.get(key, key)] = value
    return renamed


def _with_sizes_in_classifier(tree: dict[str, Any]) -> dict[str, Any]:
    """Sizes and T, which older configs may change under `stage2.episode`, under `classifier`, where they belong now."""
    stage2, classifier = tree.get("stage2"), tree.get("classifier")
    if not isinstance(stage2, dict) or not isinstance(classifier, dict):
        return tree
    episode = stage2.get("episode")
    if not isinstance(episode, dict):
        return tree
    kept = {key: value for key, value in episode.items() if key not in _OF_CLASSIFIER}
    moved = {key: episode[key] for key in _OF_CLASSIFIER if episode.get(key) is not None}
    return {**tree, "classifier": {**classifier, **moved}, "stage2": {**stage2, "episode": kept}}


_OF_CLASSIFIER = ("patch_size", "glance_size", "num_glimpses")


def _refuse_unknown(tree: Any, kind: Any, where: str) -> None:
    """Names the near miss of the first key that a (nested) dataclass does not have."""
    if not dataclasses.is_dataclass(kind) or not isinstance(tree, dict):
        return
    hints = _field_types(kind)
    for key, value in tree.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, 1)
            hint = f"did you mean {where + near[0]!r}? " if near else ""
            raise ConfigError(f"config key {where + str(key)!r} is unknown: {hint}known are {', '.join(hints)}")
        _refuse_unknown(value, hints[key], f"{where}{key}.")


def _field_types(kind: Any) -> dict[str, Any]:
    """Field names and types; of an optional one, the type that it has when given."""
    types = {}
    for name, hint in typing.get_type_hints(kind).items():
        options = [option for option in typing.get_args(hint) if dataclasses.is_dataclass(option)]
        types[name] = options[0] if options else hint
    return types
