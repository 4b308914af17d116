"""Episodes as data for the gallery of the report's page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from agents.runs.run import LoadedRun
from classifiers.data.source import ImageSource
from gfnet_env import GlanceFocusEnv
from scripts.console import printable
from scripts.episodes import episode

_NUM_BARS = 5


class GalleryEpisode(NamedTuple):
    """An episode to step through.

    Attributes:
        data: what the page's script reads: `truth`, a class name, and `looks`, one for each step.
        last_frame: (H', W', 3) uint8, its picture after the last look.
    """

    data: dict[str, Any]
    last_frame: np.ndarray


def gallery_episodes(run: LoadedRun, source: ImageSource, indices: Sequence[int]) -> list[GalleryEpisode]:
    """Plays the policy's episodes on some images."""
    return [_played(run, source, index) for index in indices]


def _played(run: LoadedRun, source: ImageSource, index: int) -> GalleryEpisode:
    pictures, frame = [], np.empty(0)
    for env in episode(run, source, index):
        frame = np.asarray(env.render())
        pictures.append(data_uri(frame, "webp"))
    trace, names = env.dynamics.trace, source.class_names
    label = int(trace.label[0])
    looks = [
        {
            "image": picture,
            "prediction": printable(names[trace.prediction[0, step]]),
            "right": bool(trace.prediction[0, step] == label),
            "confidence": float(trace.confidence[0, step]),
            "truth_probability": float(trace.label_probability[0, step]),
            "bars": class_bars(chances, names, label),
        }
        for step, (picture, chances) in enumerate(zip(pictures, class_probabilities(env), strict=True))
    ]
    return GalleryEpisode({"index": index, "truth": printable(names[label]), "looks": looks}, frame)


@torch.inference_mode()
def class_probabilities(env: GlanceFocusEnv) -> list[np.ndarray]:
    """The classifier's probabilities after each look of the current episode: its looks, taken again.

    Args:
        env: with an episode that has begun.

    Returns:
        For each step (K,) float32, which sum up to 1.
    """
    dynamics = env.dynamics
    trace, images = dynamics.trace, dynamics.images[:1]
    locations = trace.location[:1]  # (1, T, 2)
    first = None if locations[0, 0].isnan().any() else locations[:, 0]
    glimpse = dynamics.classifier.glance(images, first)
    found = [glimpse.logits]
    for step in range(1, int(trace.steps[0])):
        size = int(trace.size[0, step - 1])
        glimpse = dynamics.classifier.look(images, locations[:, step], glimpse.hidden, size=size)
        found.append(glimpse.logits)
    return [logits[0].float().softmax(dim=0).cpu().numpy() for logits in found]


def class_bars(chances: np.ndarray, names: Sequence[str], label: int) -> list[dict[str, Any]]:
    """The likeliest classes, and the true one if it is not among them.

    Args:
        chances: (K,) probabilities.
        names: of the K classes.
        label: the true one.

    Returns:
        `name`, `probability` and `is_true` of each, the likeliest first.
    """
    order = np.argsort(-chances, kind="stable")
    shown = order[:_NUM_BARS].tolist()
    if label not in shown:
        shown[-1] = label
    return [
        {"name": printable(names[each]), "probability": float(chances[each]), "is_true": each == label}
        for each in shown
    ]


def data_uri(picture: np.ndarray, format: str) -> str:
    """A picture (H, W, 3) uint8 as the `src` of an HTML image, in a format of Pillow's."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format=format, quality=85)
    return f"data:image/{format};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
