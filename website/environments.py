"""One page for each environment id, from the registry, docstrings and the environment itself."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium

from classifiers.networks.costs import glimpse_costs
from classifiers.networks.spec import ADJUSTABLE, ClassifierSpec
from gfnet_env import TASKS, EpisodeSpec, GlanceFocusEnv
from gfnet_env.tasks import Task
from website.docstrings import Argument, arguments_of, chapters_of, table, text_of

_FEW = {"num_scenes": 4, "num_clips": 4}  # images: enough to see spaces and sizes
_RULES = ("Action space", "Observation space", "Rewards", "Starting state", "Episode end", "Info")


def environment_pages(root: Path) -> dict[str, str]:
    """The pages of all ids and their overview.

    Args:
        root: the repository, for the changelog and the animations.

    Returns:
        Markdown by page; links are those of the site.
    """
    built = {env_id: _built(env_id) for env_id in TASKS}
    pages = {"environments/index.md": _overview(built)}
    for env_id, env in built.items():
        pages[f"environments/{env_id}.md"] = _page(env_id, env, root)
    for env in built.values():
        if env is not None:
            env.close()
    return pages


def _built(env_id: str) -> gymnasium.Env[Any, Any] | None:
    """The environment with few images; None if it can't be made with nothing passed."""
    taken = inspect.signature(_innermost(TASKS[env_id])).parameters
    few: dict[str, Any] = {name: count for name, count in _FEW.items() if name in taken}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # sample photos in place of ImageNet: the page says so
        try:
            return gymnasium.make(env_id, **few)
        except ValueError:
            return None


def _needs(env_id: str) -> list[str]:
    """What must be passed, in the words of the errors that say so."""
    found = []
    for given in ({}, {"root": "TREE"}):
        try:
            TASKS[env_id](**given)
        except ValueError as error:
            found.append(str(error)[str(error).index("pass ") :])
    return found


def _innermost(task: Callable[..., Task]) -> Callable[..., Task]:
    """The function that takes a task's `**kwargs`, by the docstring's word; itself if there are none."""
    inner = _passed_on(task)
    return task if inner is None else _innermost(inner)


def _passed_on(task: Callable[..., Task]) -> Callable[..., Task] | None:
    for argument in arguments_of(task):
        if argument.name.startswith("**"):
            (name,) = re.findall(r"`(\w+)`", argument.text)
            return next(other for other in TASKS.values() if getattr(other, "__name__", "") == name)
    return None


def _task_arguments(task: Callable[..., Task]) -> list[Argument]:
    """A task's own arguments, then those that it passes on."""
    own = [argument for argument in arguments_of(task) if not argument.name.startswith("*")]
    inner = _passed_on(task)
    if inner is None:
        return own
    settled = {argument.name for argument in own} | _passed(task, getattr(inner, "__name__", ""))
    return own + [argument for argument in _task_arguments(inner) if argument.name not in settled]


def _passed(task: Callable[..., Task], inner: str) -> set[str]:
    """The keywords that a task passes to another by itself, so that they can't be passed to it."""
    tree = ast.parse(inspect.getsource(task))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {
        keyword.arg
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == inner
        for keyword in call.keywords
        if keyword.arg is not None
    }


def _linked(text: str) -> str:
    """Names of tasks in a description become links to the page that describes them."""
    for env_id, task in TASKS.items():
        name = getattr(task, "__name__", None)
        if name:
            text = re.sub(rf"(?<!\[)`{name}`", f"[`{name}`]({env_id}.md#arguments)", text)
    return text


def _summary(env_id: str) -> str:
    task = TASKS[env_id]
    if isinstance(task, functools.partial):
        return f"{_linked(text_of(task.args[0]))}\n\n{_linked(text_of(task.func))}"
    return _linked(text_of(task))


def _overview(built: dict[str, gymnasium.Env[Any, Any] | None]) -> str:
    rows = []
    for env_id, env in built.items():
        needs = "nothing" if env is not None else "; ".join(_needs(env_id))
        rows.append((f"[`{env_id}`]({env_id}.md)", _summary(env_id).split("\n")[0], needs))
    return (
        "# Environments\n\n"
        f"{text_of(GlanceFocusEnv).split(chr(10))[0]}\n\n"
        f"{chapters_of(GlanceFocusEnv)['Description']}\n\n"
        "All ids share the rules below; they differ in images and networks, and each has a page.\n\n"
        + table(rows, ("id", "images", "needs"))
        + "\n"
        + _rules(2)
    )


def _rules(level: int) -> str:
    chapters = chapters_of(GlanceFocusEnv)
    return "\n".join(f"{'#' * level} {name}\n\n{chapters[name]}\n" for name in _RULES)


def _page(env_id: str, env: gymnasium.Env[Any, Any] | None, root: Path) -> str:
    parts = [f"# {env_id}\n", _summary(env_id) + "\n", _picture(env_id, root)]
    if env is None:
        parts += ["It needs something from you:\n", *(f"- {sentence}" for sentence in _needs(env_id)), ""]
    else:
        parts += [_example(env_id), _facts(env)]
    parts += [_chapters(env), _arguments(env_id), _history(env_id, (root / "CHANGELOG.md").read_text(encoding="utf-8"))]
    return "\n".join(part for part in parts if part)


def _picture(env_id: str, root: Path) -> str:
    name = f"{env_id}.gif"
    if not (root / "docs" / "environments" / name).is_file():
        return ""
    return (
        f"![Episodes of {env_id}: the glance, then patch by patch, and what the classifier sees]({name})\n\n"
        "*Episodes of a learned policy, one look after the other: green where the prediction is right. Made by "
        f"`python -m website.animations {env_id}`.*\n"
    )


def _example(env_id: str) -> str:
    made = f'env = gym.make("gfnet_env:{env_id}")\nobservation, info = env.reset(seed=0)'
    return f"```python\nimport gymnasium as gym\n\n{made}\n```\n"


def _facts(env: gymnasium.Env[Any, Any]) -> str:
    """What the environment says about itself when it is made with nothing passed."""
    inner = env.unwrapped
    assert isinstance(inner, GlanceFocusEnv)
    networks, source = inner.task.classifier, inner.task.source
    spec = networks.spec
    height, width = source.image_size
    clip = f"{spec.num_frames} frames of " if spec.num_frames else ""
    costs = ", ".join(f"{cost / 1e6:.1f} M" for cost in glimpse_costs(networks))
    classes = ", ".join(source.class_names[:10]) + (", ..." if len(source.class_names) > 10 else "")
    rows = [
        ("action space", f"`{env.action_space}`"),
        *((f"observation `{key}`", f"`{space}`") for key, space in inner.observation_space.spaces.items()),
        ("images", f"{clip}{height}x{width} pixels"),
        ("classes", f"{len(source.class_names)}: {classes}"),
        ("looks T", f"{spec.num_glimpses}, the glance included"),
        (
            "glance, patches",
            f"{spec.glance_side}x{spec.glance_side}, {' or '.join(f'{p}x{p}' for p in spec.patch_sizes)} pixels",
        ),
        ("networks", f"encoder `{spec.encoder}`, head `{spec.head}`"),
        ("multiply-adds of each look", costs),
    ]
    return "With nothing passed it is:\n\n" + table(rows, ("", "")) + "\n"


def _chapters(env: gymnasium.Env[Any, Any] | None) -> str:
    chapters = chapters_of(GlanceFocusEnv)
    shown = (
        ("Rewards", "Episode end")
        if env is not None
        else ("Action space", "Observation space", "Rewards", "Episode end")
    )
    text = "\n".join(f"## {name}\n\n{chapters[name]}\n" for name in shown)
    return text + "\nWhat all environments share, observations and infos in full, is on the [overview](index.md).\n"


def _arguments(env_id: str) -> str:
    task = _task_arguments(TASKS[env_id])
    rules = arguments_of(EpisodeSpec)
    sizes = [argument for argument in arguments_of(ClassifierSpec) if argument.name in ADJUSTABLE]
    of_networks = [Argument(one.name, one.type, "the networks' own", one.text) for one in sizes]
    return (
        "## Arguments\n\nKeywords of `gym.make` and `gym.make_vec`. Images and networks:\n\n"
        + _argument_table(task)
        + "\nThe rules of an episode ([what each is good for](../variants.md)):\n\n"
        + _argument_table(rules)
        + "\nThe looks:\n\n"
        + _argument_table(of_networks)
    )


def _argument_table(arguments: list[Argument]) -> str:
    rows = []
    for one in arguments:
        default = one.default if one.default == "the networks' own" or not one.default else f"`{one.default}`"
        rows.append((f"`{one.name}`", f"`{one.type}`", default, _linked(one.text)))
    return table(rows, ("argument", "type", "default", "what"))


def _history(env_id: str, changelog: str) -> str:
    """The version history, and the changelog's lines that name the id."""
    entries = re.split(r"\n(?=- |\n|#)", changelog)
    named = [" ".join(entry.split()) for entry in entries if entry.startswith("- ") and f"`{env_id}`" in entry]
    lines = [f"{chapters_of(GlanceFocusEnv)['Version history']}\n"]
    if named:
        lines += ["From the [changelog](../changelog.md):\n", *(_unlinked(entry) for entry in named)]
    return "\n## Version history\n\n" + "\n".join(lines) + "\n"


def _unlinked(entry: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", entry)
