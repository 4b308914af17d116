"""The ids of the environments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import pydantic
from gymnasium.wrappers import HumanRendering

from classifiers.checks import did_you_mean
from classifiers.networks.spec import ADJUSTABLE, ClassifierSpec
from classifiers.settings import error_sentence
from gfnet_env.drawn_tasks import synthetic_signs_hard_task, synthetic_signs_task
from gfnet_env.env import GlanceFocusEnv
from gfnet_env.episode import EpisodeSpec
from gfnet_env.score import ScoreScale
from gfnet_env.suite import CACHED, SUITE
from gfnet_env.tasks import (
    CLIP_COLLECTIONS,
    Task,
    image_folder_task,
    imagenet_task,
    recorded_clips_task,
    synthetic_gestures_task,
)
from gfnet_env.torch_vector_env import GlanceFocusTorchVectorEnv
from gfnet_env.vector_env import GlanceFocusVectorEnv


@dataclass(frozen=True)
class RegisteredTask:
    """What is known of an id.

    Attributes:
        make_task: returns images and their classifier.
        rules: fields of `EpisodeSpec` that this id has otherwise than by default.
        reward_threshold: mean return at which the task counts as solved; None where nothing was measured.
        scale: what random places and the reference reach with the task's own classifier, sizes and rules.
    """

    make_task: Callable[..., Task]
    rules: Mapping[str, Any] = field(default_factory=dict)
    reward_threshold: float | None = None
    scale: ScoreScale | None = None


TASKS: dict[str, RegisteredTask] = {}
"""The registered tasks, by id."""

_SAME_SCALE = frozenset(("split", "num_scenes", "device", "compile", "on_progress"))
"""Arguments of a task that leave the scale of its scores as it is."""


def register_task(
    env_id: str,
    make_task: Callable[..., Task],
    *,
    rules: Mapping[str, Any] | None = None,
    reward_threshold: float | None = None,
    scale: ScoreScale | None = None,
) -> None:
    """Registers a task with Gymnasium, so that `gymnasium.make` and `make_vec` know its id.

    Args:
        env_id: for example `"Squares-v0"`.
        make_task: returns images and their classifier. Its keyword arguments are arguments of `gymnasium.make`, beside
            those of `make_env`.
        rules: fields of `EpisodeSpec` that this id has otherwise than by default; arguments of `gymnasium.make` come
            first.
        reward_threshold: mean return at which the task counts as solved, see `gymnasium.register`.
        scale: of `info["score"]`. It holds as long as only the split, the number of scenes, the device, the
            observation and, if it is of accuracies, the reward are changed; otherwise `info` has no score.

    Raises:
        ValueError: if the rules are unknown or out of range.
    """
    try:
        EpisodeSpec(**(rules or {}))
    except pydantic.ValidationError as error:
        raise ValueError(f"rules of {env_id}: {error_sentence(error)}") from error
    TASKS[env_id] = RegisteredTask(make_task, dict(rules or {}), reward_threshold, scale)
    gymnasium.register(
        env_id,
        entry_point="gfnet_env.registration:make_env",
        vector_entry_point="gfnet_env.registration:make_vector_env",
        reward_threshold=reward_threshold,
        kwargs={"env_id": env_id},
    )


def known_task(env_id: str) -> str:
    """Returns an id; raises a `ValueError` that suggests a similar one if no task is registered under it."""
    if env_id not in TASKS:
        raise ValueError(
            f"no task is registered as {env_id!r}; {did_you_mean(env_id, TASKS)}pass one of {', '.join(TASKS)}, or "
            "--import MODULE, the one that registers it"
        )
    return env_id


def make_env(env_id: str, *, render_mode: str | None = None, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """What `gymnasium.make(env_id, ...)` calls.

    Args:
        env_id: a key of `TASKS`.
        render_mode: None, `"rgb_array"`, or `"human"` for a window, which needs pygame.
        **kwargs: fields of `EpisodeSpec`, arguments of the task, and `patch_size` or `patch_sizes`, `patch_scales`,
            `glance_size`, `num_glimpses` and `feature_stride` of the classifier (see
            `GlanceFocusClassifier.with_spec`).

    Returns:
        The environment.
    """
    task, episode = _parts(env_id, kwargs)
    if render_mode == "human":
        return HumanRendering(GlanceFocusEnv(task, episode, render_mode="rgb_array"))
    return GlanceFocusEnv(task, episode, render_mode=render_mode)


# `gymnasium.make` looks here for the modes, and makes "rgb_array_list" of "rgb_array".
make_env.metadata = {**GlanceFocusEnv.metadata, "render_modes": ["human", "rgb_array"]}  # type: ignore[attr-defined]


def make_vector_env(
    env_id: str, *, num_envs: int = 1, render_mode: str | None = None, array: str = "numpy", **kwargs: Any
) -> GlanceFocusVectorEnv | GlanceFocusTorchVectorEnv:
    """What `gymnasium.make_vec(env_id, num_envs=B, ...)` calls; see `make_env` and `GlanceFocusVectorEnv`.

    Args:
        env_id: a key of `TASKS`.
        num_envs: number B of rows.
        render_mode: None or `"rgb_array"`.
        array: `"numpy"`, or `"torch"` for tensors on the device of the task, see `GlanceFocusTorchVectorEnv`.
        **kwargs: `autoreset_mode`, and as `make_env`.

    Returns:
        The environment.
    """
    kinds: dict[str, type[GlanceFocusVectorEnv | GlanceFocusTorchVectorEnv]] = {
        "numpy": GlanceFocusVectorEnv,
        "torch": GlanceFocusTorchVectorEnv,
    }
    if array not in kinds:
        raise ValueError(f"array={array!r} is unknown; pass 'numpy' or 'torch'")
    vector = {key: kwargs.pop(key) for key in ("autoreset_mode",) if key in kwargs}
    task, episode = _parts(env_id, kwargs)
    return kinds[array](task, episode, num_envs=num_envs, render_mode=render_mode, **vector)


def _parts(env_id: str, kwargs: dict[str, Any]) -> tuple[Task, EpisodeSpec]:
    registered = TASKS[env_id]
    rules = {key: kwargs.pop(key) for key in EpisodeSpec.model_fields if key in kwargs}
    sizes = {key: kwargs.pop(key) for key in ADJUSTABLE if key in kwargs}
    try:
        episode = _episode(registered, rules)
        task = registered.make_task(**kwargs)
        classifier = task.classifier.with_spec(**sizes)
        is_same = kwargs.keys() <= _SAME_SCALE and _has_scale(registered, episode)
        if not is_same or not _looks_alike(classifier.spec, task.classifier.spec):
            return Task(task.source, classifier), episode
        return Task(task.source, classifier, registered.scale), episode
    except pydantic.ValidationError as error:
        known = [*EpisodeSpec.model_fields, *ADJUSTABLE, *inspect.signature(registered.make_task).parameters]
        raise ValueError(error_sentence(error, known)) from error


def _has_scale(registered: RegisteredTask, episode: EpisodeSpec) -> bool:
    """Whether the scale holds for some rules: what is observed changes no score, and the reward no accuracy."""
    free = ["observe"]
    if registered.scale is not None and registered.scale.of == "accuracy":
        free += ["reward", "reward_samples"]
    return episode == _episode(registered, {name: getattr(episode, name) for name in free})


def _episode(registered: RegisteredTask, given: Mapping[str, Any]) -> EpisodeSpec:
    """The id's own rules, with those that were given instead; an own rule that depends on a given one falls away."""
    return EpisodeSpec(**{**_own_rules(registered, given), **given})


def _own_rules(registered: RegisteredTask, given: Mapping[str, Any]) -> dict[str, Any]:
    depends = {"price": "step_cost", "reward_samples": "reward"}
    return {key: value for key, value in registered.rules.items() if depends.get(key) not in given}


def own_rules(env_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of an id, without those that depend on a given one.

    Args:
        env_id: a key of `TASKS`.
        given: rules that come first.

    Returns:
        Fields of `EpisodeSpec`.
    """
    return _own_rules(TASKS[env_id], given)


def _looks_alike(one: ClassifierSpec, other: ClassifierSpec) -> bool:
    """Whether glance, patches and number of glimpses are the same."""
    first, second = ((spec.patch_sizes, spec.scales, spec.glance_side, spec.num_glimpses) for spec in (one, other))
    return first == second


_BUILT_IN: dict[str, Callable[..., Task]] = {
    "GFNet-SyntheticSigns-v0": synthetic_signs_task,
    "GFNet-SyntheticSignsHard-v0": synthetic_signs_hard_task,
    "GFNet-ImageFolder-v0": image_folder_task,
    "GFNet-ImageNet-v0": imagenet_task,
    "GFNet-SyntheticGestures-v0": synthetic_gestures_task,
    **{env_id: functools.partial(recorded_clips_task, kind) for env_id, kind in CLIP_COLLECTIONS.items()},
}
_MEASURED: dict[str, tuple[float, ScoreScale]] = {
    "GFNet-SyntheticSigns-v0": (0.17, ScoreScale(0.57, 0.951)),
    "GFNet-SyntheticSignsHard-v0": (0.311, ScoreScale(0.403, 0.988)),
    "GFNet-SyntheticGestures-v0": (0.356, ScoreScale(0.516, 1.0)),
}
"""Thresholds and scales of drawn tasks, as those of the suite, by their default reward."""
for _env_id, _make_task in _BUILT_IN.items():
    _threshold, _scale = _MEASURED.get(_env_id, (None, None))
    register_task(_env_id, _make_task, reward_threshold=_threshold, scale=_scale)
for _task in (*SUITE.values(), *CACHED.values()):
    register_task(
        _task.env_id, _task.make_task, rules=_task.rules, reward_threshold=_task.reward_threshold, scale=_task.scale
    )
