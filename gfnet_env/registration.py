"""The ids of the environments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import gymnasium
import pydantic
from gymnasium.wrappers import HumanRendering

from classifiers.networks.spec import ADJUSTABLE
from classifiers.settings import error_sentence
from gfnet_env.env import GlanceFocusEnv
from gfnet_env.episode import EpisodeSpec
from gfnet_env.tasks import (
    CLIP_COLLECTIONS,
    Task,
    image_folder_task,
    imagenet_task,
    recorded_clips_task,
    synthetic_gestures_task,
    synthetic_signs_hard_task,
    synthetic_signs_task,
)
from gfnet_env.vector_env import GlanceFocusVectorEnv

TASKS: dict[str, Callable[..., Task]] = {}
"""The task function of each registered id."""


def register_task(env_id: str, make_task: Callable[..., Task]) -> None:
    """Registers a task with Gymnasium, so that `gymnasium.make` and `make_vec` know its id.

    Args:
        env_id: for example `"Squares-v0"`.
        make_task: returns images and their classifier. Its keyword arguments are arguments of `gymnasium.make`, beside
            those of `make_env`.
    """
    TASKS[env_id] = make_task
    gymnasium.register(
        env_id,
        entry_point="gfnet_env.registration:make_env",
        vector_entry_point="gfnet_env.registration:make_vector_env",
        kwargs={"env_id": env_id},
    )


def make_env(env_id: str, *, render_mode: str | None = None, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """What `gymnasium.make(env_id, ...)` calls.

    Args:
        env_id: a key of `TASKS`.
        render_mode: None, `"rgb_array"`, or `"human"` for a window, which needs pygame.
        **kwargs: fields of `EpisodeSpec`, arguments of the task, and `patch_size` or `patch_sizes`, `glance_size`,
            `num_glimpses` and `feature_stride` of the classifier (see `GlanceFocusClassifier.with_spec`).

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
    env_id: str, *, num_envs: int = 1, render_mode: str | None = None, **kwargs: Any
) -> GlanceFocusVectorEnv:
    """What `gymnasium.make_vec(env_id, num_envs=B, ...)` calls; see `make_env` and `GlanceFocusVectorEnv`."""
    vector = {key: kwargs.pop(key) for key in ("autoreset_mode",) if key in kwargs}
    task, episode = _parts(env_id, kwargs)
    return GlanceFocusVectorEnv(task, episode, num_envs=num_envs, render_mode=render_mode, **vector)


def _parts(env_id: str, kwargs: dict[str, Any]) -> tuple[Task, EpisodeSpec]:
    rules = {key: kwargs.pop(key) for key in EpisodeSpec.model_fields if key in kwargs}
    sizes = {key: kwargs.pop(key) for key in ADJUSTABLE if key in kwargs}
    try:
        episode = EpisodeSpec(**rules)
        task = TASKS[env_id](**kwargs)
        return Task(task.source, task.classifier.with_spec(**sizes)), episode
    except pydantic.ValidationError as error:
        known = [*EpisodeSpec.model_fields, *ADJUSTABLE, *inspect.signature(TASKS[env_id]).parameters]
        raise ValueError(error_sentence(error, known)) from error


_BUILT_IN: dict[str, Callable[..., Task]] = {
    "GFNet-SyntheticSigns-v0": synthetic_signs_task,
    "GFNet-SyntheticSignsHard-v0": synthetic_signs_hard_task,
    "GFNet-ImageFolder-v0": image_folder_task,
    "GFNet-ImageNet-v0": imagenet_task,
    "GFNet-SyntheticGestures-v0": synthetic_gestures_task,
    **{env_id: functools.partial(recorded_clips_task, kind) for env_id, kind in CLIP_COLLECTIONS.items()},
}
for _env_id, _make_task in _BUILT_IN.items():
    register_task(_env_id, _make_task)
