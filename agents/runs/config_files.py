"""Configs as YAML files: found by name or path, changed from the command line, checked, and written back."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from pathlib import Path
from typing import Any

import pydantic
import yaml

from agents.runs.config import RunConfig
from agents.runs.folder import RunFolder, start_folder
from agents.runs.unused_settings import check_unused
from agents.runs.yaml_text import ConfigError, parse_setting, parse_yaml, with_short_values
from classifiers.checkpoints import load_classifier
from classifiers.checks import did_you_mean, shortened
from classifiers.data.registry import COLLECTIONS, settings_of
from classifiers.networks.encoders import weights_preprocessing
from classifiers.networks.pretrained import is_file_name
from classifiers.networks.spec import ADJUSTABLE
from gfnet_env.tasks import run_weights

CONFIGS = Path(__file__).parent / "configs"
"""Folder of the configs that come with the package."""


def shipped_configs() -> dict[str, Path]:
    """Configs that come with the package, by name; those whose name begins with `_` are only extended by others."""
    files = sorted(CONFIGS.glob("*.yaml"))
    return {path.stem: path for path in files if not path.stem.startswith("_")}


def load_config(
    name_or_path: str,
    changes: list[str] | None = None,
    *,
    may_be_unused: bool = False,
    instead: dict[Path, str] | None = None,
) -> RunConfig:
    """Reads a config.

    A `start` among the changes, or beside `extends`, takes the place of the config's `initialization` and, unless
    `start_stage` is 1, of its `stage1`. The shape of the networks, `classifier`, is then that of `start`.

    Args:
        name_or_path: a YAML file, or the name of a shipped one.
        changes: `key.subkey=value` each, the value as YAML.
        may_be_unused: whether settings may change nothing, as when the same changes go to several configs.
        instead: the names or paths of configs that take the place of others where those are extended.

    Returns:
        The checked config; paths in it (`data.root`, `start`, `initialization.weights`) are absolute, so that a run can
        be used from anywhere.

    Raises:
        ConfigError: if there is none, or a key or value is wrong; says which, and suggests a similar name.
        FileNotFoundError: if `start` holds no networks.
    """
    pairs = _changes(changes)
    places = {path.resolve(): _find(other) for path, other in (instead or {}).items()}
    tree = _without_replaced(_read_whole(_find(name_or_path), places), pairs)
    for key, value in pairs.items():
        _apply(tree, key, value)
    tree = _with_sizes_in_classifier(_with_present_names(tree))
    _check_keys(tree, RunConfig)
    _take_networks_of_start(tree)
    _take_preprocessing_of_weights(tree)
    config = parse_config(tree)
    if not may_be_unused:
        check_unused(config, list(pairs))
    return _with_absolute_paths(config)


def load_run_config(folder: Path, changes: list[str] | None = None) -> RunConfig:
    """Reads the config of a run, one of an earlier version too.

    Args:
        folder: the run's.
        changes: see `load_config`.

    Returns:
        The config.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ConfigError: if a key or value is wrong.
    """
    path = RunFolder(folder).config
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no config.yaml; pass the folder of a run")
    tree = _read(path)
    for key, value in _changes(changes).items():
        _apply(tree, key, value)
    return _with_absolute_paths(parse_config(tree))


def _changes(changes: list[str] | None) -> dict[str, Any]:
    pairs = dict(parse_setting(change) for change in changes or [])
    return {_SHORT.get(key, key): value for key, value in pairs.items()}


def _without_replaced(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A config without what a `start` that is put over it takes the place of."""
    if own.get("start") is None:
        return base
    trains_stage1 = {**base, **own}.get("start_stage") == 1
    replaced = ("initialization",) if trains_stage1 else ("initialization", "stage1")
    return {key: value for key, value in base.items() if key not in replaced}


def _take_networks_of_start(tree: dict[str, Any]) -> None:
    """Fills in `classifier` from the run that `start` names; rejects a shape that its networks can't have."""
    start = tree.get("start")
    if not isinstance(start, str):
        return
    spec = dataclasses.asdict(load_classifier(run_weights(start_folder(start)))[0].spec)
    given = tree.get("classifier") or {}
    if isinstance(given, dict):
        for key, value in given.items():
            if key not in ADJUSTABLE and value != spec[key]:
                raise ConfigError(
                    f"config classifier.{key}={shortened(repr(value))}, but the networks of start ({start}) have "
                    f"{spec[key]!r}; pass classifier=null to take theirs"
                )
        tree["classifier"] = _merged(spec, given)


_OF_WEIGHTS = "weights"


def _take_preprocessing_of_weights(tree: dict[str, Any]) -> None:
    """Fills in `data.interpolation`, where it is not given, and what is to be as the pretrained weights need it.

    `crop_pct` is left alone unless it is `weights`: a crop that suits ImageNet cuts off objects near the edge, and
    stage I trains the networks on whatever crop there is.
    """
    data, initialization, classifier = (tree.get(group) for group in ("data", "initialization", "classifier"))
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str) or data["kind"] not in COLLECTIONS:
        return  # checked later
    if "interpolation" not in settings_of(data["kind"]):
        return
    weights = initialization.get("weights") if isinstance(initialization, dict) else None
    encoder = classifier.get("encoder") if isinstance(classifier, dict) else None
    if tree.get("start") is None and weights is not None and isinstance(encoder, str):
        own = weights_preprocessing(encoder, str(weights))
        data.setdefault("interpolation", _OF_WEIGHTS)
        for name in ("interpolation", "crop_pct"):
            if data.get(name) == _OF_WEIGHTS:
                data[name] = getattr(own, name)
    for name in ("interpolation", "crop_pct"):
        if data.get(name) == _OF_WEIGHTS:
            raise ConfigError(
                f"config data.{name}=weights, but there are no initialization.weights; pass some, or a value"
            )


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    root = config.data.root and str(Path(config.data.root).absolute())
    start = config.start if config.start in (None, "shipped") else str(Path(config.start).absolute())
    initialization, objects = config.initialization, config.objects
    if initialization is not None and initialization.weights is not None:
        initialization = dataclasses.replace(initialization, weights=_absolute_weights(initialization.weights))
    if objects is not None:
        objects = dataclasses.replace(objects, weights=_absolute_weights(objects.weights))
    data = dataclasses.replace(config.data, root=root)
    return dataclasses.replace(config, start=start, data=data, initialization=initialization, objects=objects)


def _absolute_weights(weights: str) -> str:
    return str(Path(weights).absolute()) if is_file_name(weights) else weights


def parse_config(tree: dict[str, Any]) -> RunConfig:
    """Checks a config that was read already; see `load_config`."""
    tree = _with_sizes_in_classifier(_with_present_names(tree))
    _check_keys(tree, RunConfig)
    _check_numbers(tree, RunConfig, "")
    try:
        return _run_config().validate_python(tree)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = with_short_values(first["msg"].removeprefix("Value error, "))
        if first["type"] == "missing" and where == "classifier":
            message += "; or pass `start: RUN` to take a run's networks"
        got = "" if first["type"] in ("value_error", "missing") else f", got {shortened(repr(first['input']))}"
        raise ConfigError(f"config {where + ': ' if where else ''}{message}{got}") from error


@functools.cache
def _run_config() -> pydantic.TypeAdapter[RunConfig]:
    """What checks the types of a config; it takes longer to build than to use."""
    return pydantic.TypeAdapter(RunConfig)


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML, every default written out."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def _find(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if name_or_path in shipped:
        return shipped[name_or_path]
    hint = did_you_mean(name_or_path, shipped)
    raise ConfigError(f"no config {name_or_path!r}: {hint}pass a YAML file or one of {', '.join(shipped)}")


def _read_whole(path: Path, instead: dict[Path, Path], above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file and what it `extends`, or what takes the place of that: its own keys win, groups are merged."""
    tree = _read(path)
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends={shortened(repr(base))}; pass the name or path of a config")
    if path in above:
        raise ConfigError(f"{path} extends itself; remove one `extends`")
    beside = path.parent / f"{base}.yaml"
    found = beside if beside.is_file() else _find(str(base))
    found = instead.get(found.resolve(), found)
    whole = _read_whole(found, instead, (*above, path))
    return _merged(_without_replaced(whole, tree), tree)


_SPELLINGS = {"patch_size", "patch_sizes"}  # of one setting: whichever is given last counts


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    whole = dict(base)
    if _SPELLINGS & own.keys():
        whole = {key: value for key, value in base.items() if key not in _SPELLINGS}
    for key, value in own.items():
        inner = whole.get(key)
        whole[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return whole


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        what = "is empty" if tree is None else f"holds a {type(tree).__name__}"
        raise ConfigError(f"{path} {what}; a config is a mapping of keys")
    return tree


_SHORT = {"agent.name": "stage2.agent"}  # what people try first


def _apply(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = tree.setdefault(parent, {})
        if inner is None:
            inner = tree[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {shortened(key)}: {parent!r} is a value, not a group of keys")
        tree = inner
    if last in _SPELLINGS:
        for spelling in _SPELLINGS:
            tree.pop(spelling, None)
    tree[last] = value


_RENAMED = {
    "part_size": "micro_batch_size",
    "centre_share": "crop_pct",
    "final_lr_share": "final_lr_fraction",
    "stds": "action_std_schedule",
}
_FREE_FORM = ("options", "policy_options")  # arguments of somebody else's classes


def _with_present_names(tree: dict[str, Any]) -> dict[str, Any]:
    """A config with its settings under their present names, so that older runs can be continued."""
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
    episode = stage2.get("episode") if isinstance(stage2, dict) else None
    if not isinstance(stage2, dict) or not isinstance(episode, dict) or not isinstance(classifier, dict | None):
        return tree
    kept = {key: value for key, value in episode.items() if key not in ADJUSTABLE}
    moved = {key: episode[key] for key in ADJUSTABLE if episode.get(key) is not None}
    shape = {"classifier": _merged(classifier or {}, moved)} if moved else {}
    return {**tree, **shape, "stage2": {**stage2, "episode": kept}}


def _check_keys(tree: Any, kind: Any, where: str = "") -> None:
    """Rejects the first key that a (nested) dataclass does not have, and suggests a similar one."""
    if not dataclasses.is_dataclass(kind) or not isinstance(tree, dict):
        return
    hints = _field_types(kind)
    for key, value in tree.items():
        if key not in hints:
            name, hint = shortened(repr(f"{where}{key}")), did_you_mean(str(key), hints, where)
            raise ConfigError(f"config key {name} is unknown: {hint}known keys are {', '.join(hints)}")
        _check_keys(value, hints[key], f"{where}{key}.")


def _check_numbers(value: Any, kind: Any, where: str) -> None:
    """Rejects NaN and infinity anywhere, and true and false where a number belongs."""
    if isinstance(value, dict):
        hints = _field_types(kind) if dataclasses.is_dataclass(kind) else {}
        for key, inner in value.items():
            _check_numbers(inner, hints.get(key, Any), f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for inner in value:
            _check_numbers(inner, kind, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"config {where}: got {value}; pass a finite number")
    elif isinstance(value, bool) and kind not in (Any, bool) and bool not in typing.get_args(kind):
        raise ConfigError(f"config {where}: got {str(value).lower()}; pass a value that is not true or false")


def _field_types(kind: Any) -> dict[str, Any]:
    """Field names and types; of an optional one, the type that it has when given."""
    types = {}
    for name, hint in typing.get_type_hints(kind).items():
        options = [option for option in typing.get_args(hint) if dataclasses.is_dataclass(option)]
        types[name] = options[0] if options else hint
    return types
