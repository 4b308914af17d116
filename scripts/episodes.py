"""Episodes of a trained policy as pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from agents.evaluation.record import EvaluationRecord
from agents.policies.baselines import encode_places, grid_locations, label_probabilities
from agents.runs.run import LoadedRun
from classifiers.data.source import ImageSource
from classifiers.files import write_bytes
from gfnet_env import GlanceFocusEnv, Task
from gfnet_env.actions import to_action
from gfnet_env.rewards import contrastive_reward


def episode(run: LoadedRun, source: ImageSource, index: int) -> Iterator[GlanceFocusEnv]:
    """Plays an episode of a run's policy, with patches of the largest size.

    Args:
        run: the networks.
        source: the images.
        index: which image.

    Yields:
        The environment, after the glance and after each patch.
    """
    env = GlanceFocusEnv(Task(source, run.classifier), run.config.stage2.episode, render_mode="rgb_array")
    env.reset(options={"index": index, "patch_sizes": run.classifier.spec.patch_size})
    state, finished = None, False
    yield env
    while not finished:
        location, state = run.policy(env.dynamics.view(), state)
        finished = env.step(to_action(location)[0])[2]
        yield env


def episode_frames(run: LoadedRun, source: ImageSource, index: int) -> Iterator[np.ndarray]:
    """The environment's picture after the glance and after each of the policy's patches; see `episode`.

    Yields:
        (H', W', 3) uint8, all of one size.
    """
    for env in episode(run, source, index):
        frame = env.render()
        assert frame is not None
        yield frame


def easy_and_hard(record: EvaluationRecord, count: int) -> list[int]:
    """Half of `count` images that were right and surest at the first focus, half that took longest or failed.

    All patches are of the largest size.
    """
    chance = record.label_probability[:, record.largest_patches]
    by_ease = np.argsort(-chance[:, 1], kind="stable")
    easy = by_ease[record.boxes[by_ease].any(axis=(1, 2))] if record.boxes.any() else by_ease
    hard = np.argsort(chance[:, -1] - chance[:, 1] - 10.0 * (chance[:, -1] < 0.5) * (chance[:, 1] < 0.5), kind="stable")
    half = count // 2
    return [*easy[:: max(1, len(easy) // 12)][:half].tolist(), *hard[: count - half].tolist()]


def telling_images(record: EvaluationRecord, count: int) -> list[int]:
    """At most `count` images that the glance gets wrong and the first focus right, the largest difference first.

    All patches are of the largest size.
    """
    glance, focus = record.largest_patches[:2]
    is_right = record.prediction == record.label[:, None]
    gain = record.label_probability[:, focus] - record.label_probability[:, glance]
    solved = np.flatnonzero(~is_right[:, glance] & is_right[:, focus])
    order = np.argsort(-gain[solved], kind="stable")
    return [int(index) for index in solved[order[:count]]]


def contact_sheet(frames: list[np.ndarray], columns: int) -> Image.Image:
    """Pictures of one size side by side."""
    height, width = frames[0].shape[:2]
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), (255, 255, 255))
    for position, frame in enumerate(frames):
        sheet.paste(Image.fromarray(frame), ((position % columns) * width, (position // columns) * height))
    return sheet


def save_png(path: Path, image: Image.Image) -> None:
    """Writes a PNG file atomically."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_bytes(path, buffer.getbuffer())


def save_gif(path: Path, frames: list[np.ndarray], milliseconds: int = 700) -> None:
    """Writes an animation atomically."""
    first, *rest = [Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
    write_bytes(path, buffer.getbuffer())


@torch.inference_mode()
def reward_map(run: LoadedRun, source: ImageSource, index: int, rows: int, columns: int) -> np.ndarray:
    """The contrastive reward of a first focus at every place of a grid, (rows, columns), as in Fig. 5.

    The expectation of Eq. (8) is the mean over the grid.
    """
    batch = source.fetch(torch.tensor([index]))
    device = run.classifier.device
    images = batch.images.to(device)
    places = grid_locations(rows, columns)
    pooled, encoder_logits = encode_places(run.classifier, images, places)
    hidden = run.classifier.glance(images).hidden
    chances = label_probabilities(run.classifier, pooled, encoder_logits, hidden, batch.labels).cpu()[0]  # (G,)
    return contrastive_reward(chances, chances[:, None]).numpy().reshape(rows, columns)
