"""Configs as YAML files: found by name or path, changed from the command line, checked, and written back."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pydantic
import yaml

from agents.algorithms.registry import AGENTS
from agents.policies.baselines import FIXED_POLICIES
from agents.runs.config import OF_SEQUENCES, RunConfig, Stage2Spec
from agents.runs.folder import RunFolder, start_folder
from agents.runs.photo_sizes import AUTO, photo_sizes, takes_auto
from classifiers.checkpoints import load_classifier
from classifiers.checks import did_you_mean, shortened
from classifiers.data.registry import COLLECTIONS
from classifiers.networks.encoders import weights_preprocessing
from classifiers.networks.spec import ADJUSTABLE
from classifiers.settings import Settings, error_sentence
from classifiers.training.fit_spec import FitSpec
from gfnet_env import TaskImages
from gfnet_env.registration import own_rules
from gfnet_env.tasks import run_weights

CONFIGS = Path(__file__).parent / "configs"
"""Folder of the configs that come with the package."""

EVALUATION_SETTINGS = (
    *("data", "device", "seed", "oracle_grid", "fixed_place_grid"),
    *(f"classifier.{name}" for name in ADJUSTABLE),
)
"""The settings, values or groups, that evaluations and pictures of a trained run depend on."""


_NETWORKS = ("full_resolution", "low_resolution")  # that are trained before stage I
_OF_POLICY_TRAINING = ("env_steps", "evaluations", "final_lr_fraction", "action_std_schedule", "shift_px")


class ConfigError(ValueError):
    """A config or a setting is invalid."""


def built_in_configs() -> dict[str, Path]:
    """Configs that come with the package, by name; those whose name begins with `_` are only extended by others."""
    files = sorted(CONFIGS.glob("*.yaml"))
    return {path.stem: path for path in files if not path.stem.startswith("_")}


def load_config(
    name_or_path: str | Path,
    changes: str | Sequence[str] | None = None,
    *,
    instead: dict[Path, str] | None = None,
    run: Path | None = None,
) -> RunConfig:
    """Reads a config.

    A `start` among the changes, or beside `extends`, takes the place of the config's `initialization` and, unless
    `start_stage` is 1, of its `stage1`. The shape of the networks, `classifier`, is then that of `start`.

    Args:
        name_or_path: a YAML file, or the name of a built-in config.
        changes: one or several `key.subkey=value`, the value as YAML.
        instead: the names or paths of configs that take the place of others where those are extended.
        run: folder of the run that may have begun with it: sizes that are left to the photos are as they are there.

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
    _forget_least_steps(tree, pairs)
    for key, value in pairs.items():
        _apply(tree, key, value)
    _take_rules_of_task(tree)
    _take_networks_of_start(tree)
    _take_preprocessing_of_weights(tree)
    _take_sizes_of_photos(tree, None if run is None else RunFolder(run).config)
    return parse_config(tree)


def load_run_config(folder: Path, changes: str | Sequence[str] | None = None) -> RunConfig:
    """Reads the config of a run.

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
    return parse_config(tree)


def _changes(changes: str | Sequence[str] | None) -> dict[str, Any]:
    if isinstance(changes, str):
        changes = [changes]
    return dict(parse_setting(change) for change in changes or [])


def _forget_least_steps(tree: dict[str, Any], changes: dict[str, Any]) -> None:
    """Removes each `min_steps` beside which a change gives `epochs`: these count then."""
    for key in changes:
        *parents, last = key.split(".")
        group: Any = tree
        for parent in parents:
            group = group.get(parent) if isinstance(group, dict) else None
        if last == "epochs" and isinstance(group, dict):
            group.pop("min_steps", None)


def _without_replaced(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A config without what a `start` that is put over it takes the place of."""
    if own.get("start") is None:
        return base
    trains_stage1 = {**base, **own}.get("start_stage") == 1
    replaced = ("initialization",) if trains_stage1 else ("initialization", "stage1")
    return {key: value for key, value in base.items() if key not in replaced}


def _task_images(tree: dict[str, Any]) -> TaskImages | None:
    """The registered task that `data` names, if it names one."""
    data = tree.get("data")
    if not isinstance(data, dict) or data.get("kind") != "task":
        return None
    try:
        return TaskImages.model_validate(data)
    except pydantic.ValidationError as error:
        raise ConfigError(f"config data.{error_sentence(error)}") from error


def _take_rules_of_task(tree: dict[str, Any]) -> None:
    """Fills in the rules of a registered task where `stage2.episode` gives no others."""
    images, stage2 = _task_images(tree), tree.get("stage2")
    if images is None or not isinstance(stage2, dict) or not isinstance(given := stage2.get("episode", {}), dict):
        return
    stage2["episode"] = {**own_rules(images.id, given), **given}


def _take_networks_of_start(tree: dict[str, Any]) -> None:
    """Fills in `classifier` from the run that `start` names; rejects a shape that its networks can't have."""
    start = tree.get("start")
    if not isinstance(start, str):
        return
    if start != "task":
        spec = load_classifier(run_weights(start_folder(start)))[0].spec.model_dump()
    elif (images := _task_images(tree)) is not None:
        spec = images.networks().spec.model_dump()
    else:
        raise ConfigError("config start=task takes the classifier of data.kind=task; pass that, or another start")
    given = tree.get("classifier") or {}
    if isinstance(given, dict):
        for key, value in given.items():
            if key in spec and key not in ADJUSTABLE and value != spec[key]:
                raise ConfigError(
                    f"config classifier.{key}={shortened(repr(value))}, but the networks of start ({start}) have "
                    f"{spec[key]!r}; pass classifier=null to take theirs"
                )
        tree["classifier"] = _merged(spec, given)


_OF_WEIGHTS = "weights"


def _take_preprocessing_of_weights(tree: dict[str, Any]) -> None:
    """Fills in `data.interpolation`, where it is not given, and what is to be as the pretrained weights need it.

    A run that starts from another one reads images as that does. `crop_pct` is left alone unless it is `weights`: a
    crop that suits ImageNet cuts off objects near the edge, and stage I trains the networks on any crop.
    """
    data, initialization, classifier = (tree.get(group) for group in ("data", "initialization", "classifier"))
    if not isinstance(data, dict):
        return
    kind = COLLECTIONS.get(str(data.get("kind")))
    if kind is None or "interpolation" not in kind.model_fields:
        return
    start = tree.get("start")
    if isinstance(start, str) and (begun := RunFolder(start_folder(start)).config).is_file():
        theirs = _read(begun).get("data") or {}
        if "interpolation" in theirs:
            data.setdefault("interpolation", theirs["interpolation"])
    weights = initialization.get("weights") if isinstance(initialization, dict) else None
    encoder = classifier.get("encoder") if isinstance(classifier, dict) else None
    if start is None and weights is not None and isinstance(encoder, str):
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


def _take_sizes_of_photos(tree: dict[str, Any], begun: Path | None) -> None:
    """Fills in `data.height` and `data.width` where they are left to the photos, or to those that a run began with."""
    data = tree.get("data")
    if not takes_auto(data):
        return
    known = dict(zip(("height", "width"), photo_sizes(data), strict=True))
    if begun is not None and begun.is_file():
        known |= _read(begun).get("data") or {}
    data.update({name: known[name] for name in ("height", "width") if data.get(name) == AUTO})


def parse_config(tree: dict[str, Any]) -> RunConfig:
    """Checks a config that was read already; see `load_config`."""
    try:
        return RunConfig.model_validate(tree)
    except pydantic.ValidationError as error:
        sentence = _place_of_unknown(error, tree) or error_sentence(error)
        if sentence == "classifier is missing":
            sentence += "; pass `start: RUN` to take a run's networks"
        raise ConfigError(f"config {sentence}") from error


def _place_of_unknown(error: pydantic.ValidationError, tree: dict[str, Any]) -> str | None:
    """A sentence with the key's place, where the first thing wrong is a key of another group: `agent.learning_rate`."""
    first = error.errors(include_url=False)[0]
    if first["type"] != "unknown_setting" or did_you_mean(first["ctx"]["name"], first["ctx"]["known"].split(", ")):
        return None
    key = ".".join([*map(str, first["loc"]), first["ctx"]["name"]])
    if is_below(key, ("data",)):
        return None  # a key of another kind of data, most likely: those that there are tell more
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        key = next(iter(_flat(value, f"{key}.")), key)
    known = list(_known_keys(RunConfig))
    stage2 = tree.get("stage2")
    agent = AGENTS.get(str(stage2.get("agent", "ppo"))) if isinstance(stage2, dict) else None
    if agent is not None:
        names = inspect.signature(agent.algorithm).parameters.keys() - _NOT_OPTIONS
        known += [f"stage2.options.{name}" for name in names]
    for name in reversed(key.split(".")):
        places = [each for each in known if each.rpartition(".")[2] == name]
        if places:
            return f"{shortened(key)} is unknown: did you mean {' or '.join(map(repr, places))}?"
    return None


_NOT_OPTIONS = {"policy", "env", "policy_kwargs", "seed", "device"}  # of an algorithm: others decide on them


def _known_keys(group: type[Settings], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a group of settings; those of the kinds of data left out."""
    for name, field in group.model_fields.items():
        yield prefix + name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, Settings):
                yield from _known_keys(inner, f"{prefix}{name}.")


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def dump_applied(config: RunConfig) -> str:
    """The settings that a run depends on, as YAML: no stages that it leaves out, no options of what was not chosen."""
    unused = set(_unused_settings(config))
    kept: dict[str, Any] = {}
    for key, value in flat_settings(config).items():
        if value not in (None, [], {}) and not is_below(key, unused):
            _apply(kept, key, value)
    return yaml.safe_dump(kept, sort_keys=False)


def _unused_settings(config: RunConfig) -> Iterator[str]:
    """Dotted keys of the settings, values or groups, that have no effect beside the others."""
    classifier, stage2, start = config.classifier, config.stage2, config.initialization
    yield "classifier.patch_size" if len(classifier.patch_sizes) > 1 else "classifier.patch_sizes"
    if classifier.head != "gru":
        yield "classifier.hidden_size"
    yield from ("stage2.episode.stop_action", "stage2.episode.size_action")  # not for runs
    if not stage2.episode.draws_patches:
        yield "stage2.episode.reward_samples"
    if config.start is None:
        yield "start_stage"
    if stage2.agent in FIXED_POLICIES:
        yield from (f"stage2.{name}" for name in Stage2Spec.model_fields if name not in ("agent", "episode"))
    elif config.start_stage == 3 and config.rounds == 1:
        yield from (f"stage2.{name}" for name in _OF_POLICY_TRAINING)
    if start is not None:
        yield from (f"initialization.{stage}.{name}" for stage in _NETWORKS for name in (*OF_SEQUENCES, "object_share"))
        if start.networks_from == "weights" or classifier.shares_encoder:
            yield from ("initialization.low_resolution", "initialization.low_resolution_sides")
    for name in ("stage1", "stage3"):
        fit = getattr(config, name)
        if config.objects is None:
            yield f"{name}.object_share"
        if fit is not None and fit.epochs == 0:
            yield from (f"{name}.{other}" for other in FitSpec.model_fields if other != "epochs")
    for stage in _NETWORKS:
        if start is not None and getattr(start, stage).epochs == 0:
            yield from (f"initialization.{stage}.{other}" for other in FitSpec.model_fields if other != "epochs")


def check_evaluation_changes(trained: RunConfig, changed: RunConfig) -> None:
    """Rejects changes to the config of a trained run that only matter for training.

    Args:
        trained: the run's config.
        changed: the same with changes.

    Raises:
        ConfigError: with the first such setting, or if the policy knows another number of patch sizes.
    """
    before, now = (len(config.classifier.patch_sizes) for config in (trained, changed))
    if before != now and changed.stage2.agent not in FIXED_POLICIES:
        raise ConfigError(
            f"config classifier.patch_sizes: the run's policy knows {before} patch sizes, not {now}; pass as many, or "
            "train a policy"
        )
    for key in changed_settings(trained, changed):
        if not is_below(key, EVALUATION_SETTINGS):
            raise ConfigError(
                f"config {key} changes nothing about a run that is trained; change one of "
                f"{', '.join(EVALUATION_SETTINGS)}"
            )


def changed_settings(before: RunConfig, now: RunConfig) -> list[str]:
    """Dotted keys, such as `stage2.env_steps`, of the values that differ between two configs."""
    left, right = flat_settings(before), flat_settings(now)
    return [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]


def flat_settings(config: RunConfig) -> dict[str, Any]:
    """All values of a config by their dotted keys."""
    return _flat(config.model_dump(mode="json"))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return values


def is_below(key: str, groups: Collection[str]) -> bool:
    """Whether a key is one of some settings, or lies in one of them that is a group."""
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    built_in, name_or_path = built_in_configs(), str(name_or_path)
    if name_or_path in built_in:
        return built_in[name_or_path]
    hint = did_you_mean(name_or_path, built_in, most=3)
    raise ConfigError(f"no config {name_or_path!r}: {hint}pass a YAML file, or the name of one in {CONFIGS}")


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
    if "epochs" in own:
        whole.pop("min_steps", None)
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
        parsed = parse_yaml(value, "")
    except ConfigError as error:
        raise ConfigError(f"--set {shortened(repr(text))}: the value is not YAML; put it in quotes?") from error
    if isinstance(parsed, str) and " #" in value and value[0] not in "'\"":
        return key, value  # a comment in YAML, but on the command line more likely part of a name
    return key, parsed
