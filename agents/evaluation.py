"""What a policy is worth on held-out images: one record of a fixed-length rollout, and pure functions of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from agents.baselines import Policy
from agents.fixed_agents import FixedAgent
from classifiers.atomic_files import write_atomically
from classifiers.datasets.image_source import Batch, ImageSource
from classifiers.frozen import FrozenClassifier
from classifiers.glance_focus import FullResolutionNetwork, GlanceFocusClassifier, Glimpse, Locator
from classifiers.multiply_adds import glimpse_costs
from classifiers.patches import crop, top_left_px
from gfnet_env.actions import to_location
from gfnet_env.episode import OBSERVATION_KEYS


@dataclass(frozen=True)
class EvaluationRecord:
    """All that is kept of N episodes of T steps; never the (N, T, K) probabilities.

    Attributes:
        label: (N,) int64.
        box: (N, 4) int64, see `classifiers.datasets.image_source.Batch`.
        prediction: (N, T) int64.
        confidence: (N, T) float32, the largest probability.
        entropy: (N, T) float32, of the prediction, in nats.
        label_probability: (N, T) float32.
        location: (N, T - 1, 2) float32, where each patch lay, in [0, 1].
        multiply_adds: (T,) int64, what the first 1 to T steps cost together: t looks and t - 1 decisions.
        patch_size: side of the patches in pixels.
        image_size: (H, W) in pixels.
    """

    label: np.ndarray
    box: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    entropy: np.ndarray
    label_probability: np.ndarray
    location: np.ndarray
    multiply_adds: np.ndarray
    patch_size: int
    image_size: tuple[int, int]


def save_record(path: Path, record: EvaluationRecord) -> None:
    """Writes a record, whole or not at all."""
    arrays = {
        name: np.ascontiguousarray(value) for name, value in vars(record).items() if isinstance(value, np.ndarray)
    }
    sizes = {"patch_size": record.patch_size, "image_size": record.image_size}
    write_atomically(path, lambda temporary: save_file(arrays, temporary, {"sizes": json.dumps(sizes)}))


def load_record(path: Path) -> EvaluationRecord:
    """Reads a record that `save_record` wrote.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a whole record.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; run `gfnet evaluate` on the run first")
    try:
        with safe_open(path, framework="numpy") as file:
            sizes = json.loads(file.metadata()["sizes"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or no record; run `gfnet evaluate` on the run again") from error
    if "multiply_adds" not in arrays:
        raise ValueError(f"{path} is of an earlier version; run `gfnet evaluate` on the run again")
    height, width = sizes["image_size"]
    return EvaluationRecord(**arrays, patch_size=sizes["patch_size"], image_size=(height, width))


@torch.inference_mode()
def evaluate(
    classifier: FrozenClassifier,
    source: ImageSource,
    policy: Policy,
    *,
    num_glimpses: int | None = None,
    policy_cost: int = 0,
    max_images: int | None = None,
    batch_size: int = 250,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationRecord:
    """Lets a policy look at every image of a source for T steps, the glance counted.

    Args:
        classifier: the frozen networks.
        source: the images.
        policy: where to look.
        num_glimpses: T; the classifier's if None.
        policy_cost: multiply-adds of one decision of the policy.
        max_images: look at so many images at most, evenly spread over the source.
        batch_size: images side by side.
        on_progress: told of (images done, images in all).

    Returns:
        The record.
    """
    steps = num_glimpses or classifier.spec.num_glimpses
    chosen = _evenly_spread(len(source), max_images)
    parts: list[dict[str, np.ndarray]] = []
    for indices in chosen.split(batch_size):
        parts.append(_rollout(classifier, source.fetch(indices), policy, steps))
        if on_progress is not None:
            on_progress(min(len(parts) * batch_size, len(chosen)), len(chosen))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return EvaluationRecord(
        **joined,
        multiply_adds=np.array(cumulative_multiply_adds(classifier, policy_cost, steps)),
        patch_size=classifier.spec.patch_size,
        image_size=source.image_size,
    )


def _evenly_spread(length: int, most: int | None) -> Tensor:
    count = min(length, most or length)
    return torch.arange(count) * length // count


def cumulative_multiply_adds(classifier: GlanceFocusClassifier, policy_cost: int, num_glimpses: int) -> list[int]:
    """Multiply-adds of the first 1 to T steps together: t looks and t - 1 decisions of the policy."""
    looks = glimpse_costs(classifier)
    looks = (*looks, *[looks[-1]] * (num_glimpses - len(looks)))[:num_glimpses]
    return [sum(looks[: t + 1]) + t * policy_cost for t in range(num_glimpses)]


def _rollout(classifier: FrozenClassifier, batch: Batch, policy: Policy, steps: int) -> dict[str, np.ndarray]:
    device = classifier.normalize.scale.device
    images = batch.images.to(device)
    locate, state = policy(batch._replace(images=images)), None
    glimpse = classifier.glance(images)
    columns, locations = [_columns(glimpse, batch.labels)], []
    side = classifier.spec.patch_size
    for _ in range(steps - 1):
        location, state = locate(glimpse, state)
        patches = crop(images, top_left_px(location, (images.shape[2], images.shape[3]), side), side)
        glimpse = classifier.focus(patches, glimpse.hidden)
        columns.append(_columns(glimpse, batch.labels))
        locations.append(location.cpu())
    by_step = {name: np.stack([column[name] for column in columns], axis=1) for name in columns[0]}
    return {
        **by_step,
        "label": batch.labels.numpy(),
        "box": batch.boxes.numpy(),
        "location": torch.stack(locations, dim=1).numpy(),
    }


def _columns(glimpse: Glimpse, labels: Tensor) -> dict[str, np.ndarray]:
    log_probabilities = glimpse.logits.float().log_softmax(dim=1).cpu()  # (B, K)
    probabilities = log_probabilities.exp()
    confidence, prediction = probabilities.max(dim=1)
    return {
        "prediction": prediction.numpy(),
        "confidence": confidence.numpy(),
        "entropy": -(probabilities * log_probabilities).sum(dim=1).numpy(),
        "label_probability": probabilities.gather(1, labels[:, None])[:, 0].numpy(),
    }


def accuracy_by_step(record: EvaluationRecord) -> list[float]:
    """Share of right predictions after each of the T steps (anytime prediction, Section 5.1.2)."""
    right: list[float] = (record.prediction == record.label[:, None]).mean(axis=0).tolist()
    return right


def confidence_by_step(record: EvaluationRecord) -> list[float]:
    """Mean largest probability after each of the T steps."""
    means: list[float] = record.confidence.mean(axis=0, dtype=np.float64).tolist()
    return means


def pointing_game(record: EvaluationRecord) -> list[float] | None:
    """Share of images whose box had its centre inside one of the first 1, 2, ..., T - 1 patches.

    Args:
        record: of images with ground-truth boxes.

    Returns:
        T - 1 shares of the images that have a box; None if none has.
    """
    has_box = record.box.any(axis=1)
    if not has_box.any():
        return None
    box, side = record.box[has_box][:, None], record.patch_size
    centre = (box[..., :2] + box[..., 2:]) / 2  # (N, 1, 2)
    location = torch.from_numpy(record.location[has_box]).flatten(0, 1)
    corners = top_left_px(location, record.image_size, side).numpy().reshape(-1, record.location.shape[1], 2)
    inside = ((corners <= centre) & (centre < corners + side)).all(axis=2)  # (N, T - 1)
    shares: list[float] = np.logical_or.accumulate(inside, axis=1).mean(axis=0).tolist()
    return shares


def agent_locator(agent: BaseAlgorithm | FixedAgent) -> Locator:
    """An SB3 agent's deterministic policy as the classifier sees it, for stage III and evaluation.

    A locator says where to look, not whether: of an agent that may stop (`EpisodeSpec.stop_action`), its stops are left
    out and every image gets all its looks, those included that the agent was never trained to take.

    Args:
        agent: trained on an environment of ours; its own recurrent state, if any, is carried along.

    Returns:
        The locator.
    """
    keys: tuple[str, ...] = OBSERVATION_KEYS
    if not isinstance(agent, FixedAgent):
        assert isinstance(agent.observation_space, spaces.Dict)
        keys = tuple(agent.observation_space)

    def locate(glimpse: Glimpse, state: Any) -> tuple[Tensor, Any]:
        observation = {key: getattr(glimpse, key).detach().cpu().numpy() for key in keys}
        starts = np.full(len(glimpse.logits), state is None)
        actions, state = agent.predict(observation, state, episode_start=starts, deterministic=True)
        return to_location(actions[:, :2]).to(glimpse.logits.device), state

    return locate


@torch.inference_mode()
def full_resolution_accuracy(
    network: FullResolutionNetwork, source: ImageSource, *, max_images: int | None = None, batch_size: int = 50
) -> float:
    """Share of images that an ordinary network classifies rightly.

    Args:
        network: the network, on any device.
        source: the images.
        max_images: look at so many images at most, the same that `evaluate` looks at.
        batch_size: images side by side.

    Returns:
        The share.
    """
    network.eval()
    device = network.normalize.scale.device
    right, chosen = 0, _evenly_spread(len(source), max_images)
    for indices in chosen.split(batch_size):
        batch = source.fetch(indices)
        right += int((network(batch.images.to(device)).argmax(dim=1).cpu() == batch.labels).sum())
    return right / len(chosen)
