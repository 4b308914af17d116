"""Tasks of drawn scenes, with the classifiers that come with the package."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save

from classifiers.checkpoints import load_classifier, load_exactly
from classifiers.data.collection import Count
from classifiers.data.drawings import DrawingSpec, cache_folder, load_scenes, try_to_keep
from classifiers.data.source import ArrayImages
from classifiers.data.synthetic_signs.scenes import SceneSpec
from classifiers.devices import usable_device
from classifiers.inference.cached import MAPS_VERSION, CachedClassifier, WholeMaps, encode_whole
from classifiers.inference.frozen import frozen
from classifiers.settings import checked
from classifiers.tensor_files import CheckpointError, read_safetensors
from gfnet_env.shared import shared
from gfnet_env.tasks import PRETRAINED_HARD_RUN, PRETRAINED_RUN, ClassifierLike, Split, Task, networks_of, run_weights

WEIGHTS = Path(__file__).parent / "weights_suite"
"""The classifiers of the suite that come with the package."""

CACHED_HEADS = Path(__file__).parent / "weights_cached"
"""The heads of the cached tasks, trained on crops of feature maps."""

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
    return drawn_task(_own_scenes(scenes, spec), classifier or WEIGHTS / f"{spec.name}.safetensors", **kwargs)


def _own_scenes(scenes: DrawingSpec | None, spec: DrawingSpec) -> DrawingSpec:
    if scenes is not None and not isinstance(scenes, type(spec)):
        raise ValueError(f"scenes is a {type(scenes).__name__}; pass a {type(spec).__name__}")
    return scenes or spec


@checked
def cached_task(
    spec: DrawingSpec,
    *,
    classifier: ClassifierLike | None = None,
    scenes: DrawingSpec | None = None,
    split: Split = "train",
    num_scenes: Count = 2000,
    device: str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> Task:
    """A task of drawn scenes whose looks crop feature maps of whole images, see `CachedClassifier`.

    The maps are computed once and kept in the cache, 280 kB a scene.

    Args:
        spec: of its scenes, of a task with a classifier of its own.
        classifier: None; its networks are fixed.
        scenes: see `suite_task`.
        split: see `drawn_task`.
        num_scenes: see `drawn_task`.
        device: where the classifier runs.
        on_progress: called with (scenes done, scenes in all) while scenes are drawn.

    Returns:
        The task.

    Raises:
        ValueError: if the scenes are another task's, or there is a classifier.
    """
    if classifier is not None:
        raise ValueError("a cached id has a classifier of its own; leave classifier out, or take the id without Cached")
    shown = _own_scenes(scenes, spec)
    source = shared(
        ("scenes", shown, split, num_scenes), lambda: load_scenes(shown, split, num_scenes, on_progress=on_progress)
    )
    key = ("cached", shown, split, num_scenes, device)
    return Task(source, shared(key, lambda: _cached_networks(shown, source, split, device)))


def cached_weights(spec: DrawingSpec) -> tuple[Path, Path]:
    """The files of a cached task: of the networks whose encoders it has, and of its own head."""
    name = f"{spec.name}.safetensors"
    return run_weights(PRETRAINED_RUN) if isinstance(spec, SceneSpec) else WEIGHTS / name, CACHED_HEADS / name


def _cached_networks(spec: DrawingSpec, source: ArrayImages, split: str, device: str) -> CachedClassifier:
    encoders, head = cached_weights(spec)
    networks, _ = load_classifier(encoders)
    load_exactly(networks.head, read_safetensors(head)[1], head)
    digest = hashlib.sha256(encoders.read_bytes()).hexdigest()[:8]
    path = cache_folder(spec) / f"maps-{MAPS_VERSION}-{digest}-{split}-{len(source)}.safetensors"
    try:
        maps = WholeMaps(**read_safetensors(path)[1])
    except (OSError, TypeError, CheckpointError):  # not there, or damaged
        maps = encode_whole(frozen(networks), source.images)
        try_to_keep(path, save(maps._asdict()))
    return CachedClassifier(networks.to(usable_device(device)), source, maps)
