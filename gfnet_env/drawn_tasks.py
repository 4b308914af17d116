"""Tasks of drawn scenes, with the classifiers that come with the package."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from classifiers.data.collection import Count
from classifiers.data.drawings import DrawingSpec, load_scenes
from classifiers.data.synthetic_signs.scenes import SceneSpec
from classifiers.settings import checked
from gfnet_env.shared import shared
from gfnet_env.tasks import PRETRAINED_HARD_RUN, PRETRAINED_RUN, ClassifierLike, Split, Task, networks_of

WEIGHTS = Path(__file__).parent / "weights_suite"
"""The classifiers of the suite that come with the package."""

HARD_SCENES = SceneSpec(height=240, width=320, min_sign_px=24, max_sign_px=34, max_distractors=5)
"""The harder preset: a scene is 33 times the patch, as in the paper (Table 4), with smaller signs, more distractors."""


@checked
def drawn_task(
    spec: DrawingSpec,
    classifier: ClassifierLike,
    *,
    split: Split = "train",
    num_scenes: Count = 2000,
    device: str = "cpu",
    compile: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Task:
    """Drawn scenes and their classifier.

    Args:
        spec: what the scenes look like.
        classifier: the networks, or where to find them.
        split: `"train"`, `"val"` or `"test"`.
        num_scenes: scenes of the split, generated once and kept in the cache.
        device: where the classifier runs.
        compile: whether to compile its encoders.
        on_progress: called with (scenes done, scenes in all) while they are generated.

    Returns:
        The task.
    """
    networks = networks_of(classifier, spec.classes, device=device, compile=compile)
    drawn = shared(
        ("scenes", spec, split, num_scenes), lambda: load_scenes(spec, split, num_scenes, on_progress=on_progress)
    )
    return Task(drawn, networks)


def passes_on(function: Callable[..., Task]) -> Callable[..., Task]:
    """Names the arguments of `drawn_task` in the signature of a function whose `**kwargs` it takes."""
    made = checked(function)
    own = [each for each in inspect.signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD]
    others = inspect.signature(drawn_task).parameters.values()
    passed = [each for each in others if each.kind is each.KEYWORD_ONLY]
    made.__signature__ = inspect.signature(function).replace(parameters=[*own, *passed])  # type: ignore[attr-defined]
    return made


@passes_on
def synthetic_signs_task(
    *, classifier: ClassifierLike | None = None, scenes: SceneSpec | None = None, **kwargs: Any
) -> Task:
    """The built-in task: generated road scenes, without any download.

    Args:
        classifier: None takes the weights that come with the package.
        scenes: what they look like.
        **kwargs: `split`, `num_scenes`, `device`, `compile` and `on_progress` of `drawn_task`.

    Returns:
        The task.
    """
    return drawn_task(scenes or SceneSpec(), classifier or PRETRAINED_RUN, **kwargs)


@passes_on
def synthetic_signs_hard_task(
    *, classifier: ClassifierLike | None = None, scenes: SceneSpec | None = None, **kwargs: Any
) -> Task:
    """The built-in task, harder: larger scenes, smaller signs, more distractors.

    It is `synthetic_signs_task` with `HARD_SCENES` and networks trained on them.

    Args:
        classifier: None takes the weights that come with the package.
        scenes: what they look like, instead of `HARD_SCENES`.
        **kwargs: of `drawn_task`.

    Returns:
        The task.
    """
    return drawn_task(scenes or HARD_SCENES, classifier or PRETRAINED_HARD_RUN, **kwargs)


@passes_on
def suite_task(
    spec: DrawingSpec,
    *,
    classifier: ClassifierLike | None = None,
    scenes: DrawingSpec | None = None,
    **kwargs: Any,
) -> Task:
    """A task of the suite, `gfnet_env.suite.SUITE`.

    Args:
        spec: of its scenes; their rules are in `classifiers.data.drawn_tasks`.
        classifier: None takes the weights that come with the package.
        scenes: what they look like, of the class of `spec`; None takes `spec` itself.
        **kwargs: `split`, `num_scenes`, `device`, `compile` and `on_progress` of `drawn_task`.

    Returns:
        The task.

    Raises:
        ValueError: if the scenes are another task's.
    """
    if scenes is not None and not isinstance(scenes, type(spec)):
        raise ValueError(f"scenes is a {type(scenes).__name__}; pass a {type(spec).__name__}")
    return drawn_task(scenes or spec, classifier or WEIGHTS / f"{spec.name}.safetensors", **kwargs)
