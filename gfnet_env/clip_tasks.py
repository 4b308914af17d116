"""Clips, recorded or drawn, and a classifier of their classes."""

from __future__ import annotations

from pathlib import Path

from classifiers.data.clips.collections import (
    Jester,
    RecordedCollection,
    SomethingSomethingV1,
    SomethingSomethingV2,
    VideoFolder,
)
from classifiers.data.prefetch import Prefetcher
from classifiers.data.synthetic_gestures.clips import CLASS_NAMES, GestureSpec
from classifiers.data.synthetic_gestures.source import GestureClips
from classifiers.devices import usable_device
from classifiers.inference.frozen import frozen
from gfnet_env.tasks import ClassifierLike, Task, file_settings, resolve_classifier

SHIPPED_GESTURES_RUN = Path(__file__).parent / "weights_gestures"
"""Networks of the embedded task of clips, shipped with the package: the baseline and those of stage I."""


def synthetic_gestures_task(
    *,
    classifier: ClassifierLike | None = None,
    split: str = "train",
    num_clips: int = 2000,
    gestures: GestureSpec | None = None,
    draw_threads: int | None = None,
    device: str = "cpu",
    compile: bool = False,
) -> Task:
    """The embedded task of clips: drawn ones, in which only a small disc's motion tells the class; no download.

    Args:
        classifier: None takes the weights that come with the package.
        split: `"train"`, `"val"` or `"test"`.
        num_clips: clips of the split, each drawn when it is looked at.
        gestures: what they look like.
        draw_threads: threads that draw in advance; None takes one for each core.
        device: where the classifier runs.
        compile: whether to compile its encoders.

    Returns:
        The task.
    """
    networks = resolve_classifier(SHIPPED_GESTURES_RUN if classifier is None else classifier, class_names=CLASS_NAMES)
    source = GestureClips(gestures or GestureSpec(), split, num_clips)
    return Task(Prefetcher(source, draw_threads), frozen(networks.to(usable_device(device)), compile=compile))


def recorded_clips_task(
    collection: type[RecordedCollection],
    *,
    root: str | Path | None = None,
    classifier: ClassifierLike | None = None,
    split: str = "train",
    image_size: int | tuple[int, int] = 224,
    crop_pct: float = 0.875,
    interpolation: str = "bilinear",
    unreadable: str = "raise",
    decode_threads: int | None = None,
    device: str = "cpu",
    compile: bool = False,
) -> Task:
    """Clips on disk; the number of frames is the classifier's, which takes the centres of as many segments.

    Args:
        collection: how they lie there.
        root: the data set's folder; required.
        classifier: the networks, or where to find them, with an encoder of clips; required.
        split: `"train"`, `"val"` or `"test"`.
        image_size: pixels to which frames are resized and centre-cropped, one side or (height, width).
        crop_pct: fraction of each side that the centre crop keeps; 0.875 is 224 of 256 pixels.
        interpolation: how frames are scaled, `"bilinear"` or `"bicubic"`.
        unreadable: `"raise"` or `"skip"` recordings that can't be decoded.
        decode_threads: threads that decode in advance; None takes one for each core.
        device: where the classifier runs.
        compile: whether to compile its encoders.

    Returns:
        The task.

    Raises:
        ValueError: if an argument is missing or does not fit the others.
        FileNotFoundError: if there is no such folder, or no list in it.
    """
    if root is None:
        raise ValueError("no clips were given; pass root= the folder of the data set")
    if classifier is None:
        raise ValueError(
            "no classifier was given; pass classifier= one with an encoder of clips such as tsm8:resnet50, its "
            ".safetensors file, or the folder of a run"
        )
    found = collection(**file_settings(root, image_size, crop_pct, interpolation, unreadable))
    networks = resolve_classifier(classifier, class_names=found.class_names() or ())
    if networks.spec.num_frames is None:
        raise ValueError(
            f"the classifier's encoder {networks.spec.encoder} takes images, this task shows clips; pass one with an "
            f"encoder such as tsm8:{networks.spec.encoder}"
        )
    source = found.with_frames(networks.spec.num_frames).open(split)
    fast = frozen(networks.to(usable_device(device)), compile=compile)
    return Task(Prefetcher(source, decode_threads), fast)


CLIP_COLLECTIONS: dict[str, type[RecordedCollection]] = {
    "GFNet-SomethingSomethingV1-v0": SomethingSomethingV1,
    "GFNet-SomethingSomethingV2-v0": SomethingSomethingV2,
    "GFNet-Jester-v0": Jester,
    "GFNet-VideoFolder-v0": VideoFolder,
}
"""How the clips of each id lie on disk."""
