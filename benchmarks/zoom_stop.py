"""Trains the classifier of `GFNet-ZoomStop-v0`, and measures what the reference reaches.

    python benchmarks/zoom_stop.py         # trains: gfnet_env/weights_suite/zoom_stop.safetensors
    python benchmarks/zoom_stop.py head    # trains only the head again
    python benchmarks/zoom_stop.py --measure

The classifier is a referee: it is trained with the boxes of the signs, which an agent never sees.

1. f_L reads patches of all three sizes. Two thirds of the patches of a scene with a sign lie around its box. The target
   is the limit where at least 75 % of the sign are in the patch, and "none" where at most 15 % are. Between them, the
   patch doesn't count at first, and is "cut" in the last fifth of the training.
2. f_G learns to tell from the glance at which position of its map a sign's center is, not which limit it shows.
3. Both are frozen. The GRU learns from the stored vectors of random sequences of patches, 60 % around the box. It may
   name a limit only after a patch that held at least 75 % of the sign; until then all limits are equally right.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from fitting import fit
from torch import Tensor, nn
from torch.nn import functional

from agents import as_sb3, play
from agents.leaderboard.trainers import MakeEnv, train_random
from agents.policies.baselines import ReferencePolicy
from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.data.drawings import load_scenes
from classifiers.data.drawn_tasks.zoom_stop import ZoomStopSpec
from classifiers.data.source import ArrayImages, Batch
from classifiers.data.synthetic_signs.signs import CLASS_NAMES, SPEED_LIMITS
from classifiers.networks.encoders import Encoder
from classifiers.networks.geometry import crop_at, top_left_px
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.glimpse import View
from classifiers.networks.heads import Head
from classifiers.networks.spec import ClassifierSpec
from gfnet_env.suite import SUITE
from gfnet_env.tasks import PRETRAINED_RUN, Task, run_weights

WEIGHTS = Path(__file__).parent.parent / "gfnet_env" / "weights_suite" / "zoom_stop.safetensors"
PARTS = ("reader", "finder", "head")

SPEC = ClassifierSpec(
    encoder="small_resnet",
    patch_sizes=(24, 48, 96),
    glance_size=64,
    num_glimpses=5,
    hidden_size=96,
    resize_mode="area",
)
NUM_SCENES, READER_STEPS, CUT_STEPS, FINDER_STEPS, HEAD_STEPS = 8000, 1500, 400, 1500, 4000
_WHOLE, _NOTHING = 0.75, 0.15  # shares of a sign
_CUT = len(CLASS_NAMES)  # what a patch with a share between these shows


def train(parts: Sequence[str], seed: int) -> None:
    """Trains parts of the networks and writes them all.

    Encoders start from those of the built-in task, which read signs of 28 to 40 pixels; parts that are not trained stay
    as they are.
    """
    torch.manual_seed(seed)
    classifier = GlanceFocusClassifier(SPEC, len(CLASS_NAMES)).eval()
    for part, name in (("reader", "local_encoder"), ("finder", "global_encoder")):
        start, _ = load_classifier(run_weights(PRETRAINED_RUN) if part in parts else WEIGHTS)
        getattr(classifier, name).load_state_dict(getattr(start, name).state_dict())
    smaller_too = load_scenes(ZoomStopSpec(min_sign_px=12), "train", NUM_SCENES)
    if "reader" in parts:
        train_reader(classifier.local_encoder, smaller_too, seed, READER_STEPS, knows_cut=False)
        train_reader(classifier.local_encoder, smaller_too, seed, CUT_STEPS, knows_cut=True)
    if "finder" in parts:
        train_finder(classifier, smaller_too, seed)
    train_head(classifier.head, encode(classifier, load_scenes(ZoomStopSpec(), "train", NUM_SCENES // 2)), seed)
    save_classifier(WEIGHTS, classifier, CLASS_NAMES)


def places(batch: Batch, side: int, share: float) -> Tensor:
    """(B, 2) locations of patches: a share of those of scenes with a sign lie around it, the others anywhere."""
    boxes = batch.boxes[:, 0].float()
    anywhere = torch.rand(len(boxes), 2)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 + side / 6 * torch.randn(len(boxes), 2)
    room = torch.tensor(batch.images.shape[-2:]) - side
    around = ((center - side / 2) / room).clamp(0, 1)
    is_around = boxes.any(dim=1) & (torch.rand(len(boxes)) < share)
    return torch.where(is_around[:, None], around, anywhere)


def visible_share(batch: Batch, location: Tensor, side: int) -> Tensor:
    """(B,) share of the sign's box inside each patch; 0 where there is none."""
    boxes = batch.boxes[:, 0]
    corner = top_left_px(location, (batch.images.shape[-2], batch.images.shape[-1]), side)
    inside = (torch.minimum(boxes[:, 2:], corner + side) - torch.maximum(boxes[:, :2], corner)).clamp(min=0)
    return inside.prod(dim=1) / (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).clamp(min=1)


def _shown(batch: Batch, location: Tensor, side: int) -> Tensor:
    """(B,) what a patch shows: the label where it holds the sign, 0 where it doesn't, else `_CUT`."""
    share = visible_share(batch, location, side)
    return torch.where(share >= _WHOLE, batch.labels, torch.where(share <= _NOTHING, 0, _CUT))


def train_reader(encoder: Encoder, source: ArrayImages, seed: int, steps: int, *, knows_cut: bool) -> None:
    """f_L: what patches of all sizes show, by a layer that is not kept.

    Patches that cut the sign either don't count, or are a class of their own.
    """
    torch.manual_seed(seed)
    layer = nn.Linear(encoder.pooled_size, len(CLASS_NAMES) + 1)
    ignored = -100 if knows_cut else _CUT

    def loss() -> Tensor:
        found = torch.zeros(())
        for side, count in zip(SPEC.patch_sizes, (64, 64, 32), strict=True):
            batch = source.fetch(torch.randint(len(source), (count,)))
            location = places(batch, side, 2 / 3)
            logits = layer(encoder.encode_pixels(crop_at(batch.images, location, side)).pooled)
            shown = _shown(batch, location, side)
            found = found + functional.cross_entropy(logits, shown, ignore_index=ignored)
        return found

    fit([encoder, layer], steps, 2e-3, loss, "f_L")


def train_finder(classifier: GlanceFocusClassifier, source: ArrayImages, seed: int) -> None:
    """f_G: whether there is a sign, at which position of its map, and how large, by layers that are not kept."""
    torch.manual_seed(seed)
    encoder = classifier.global_encoder
    layer, presence = nn.Conv2d(encoder.pooled_size, 2, 1), nn.Linear(encoder.pooled_size, 2)

    def loss() -> Tensor:
        batch = source.fetch(torch.randint(len(source), (64,)))
        features, pooled = encoder.encode_pixels(classifier.first_input(batch.images))
        heat, size = layer(features).unbind(1)  # (B, h, w) each
        boxes, grid = batch.boxes[:, 0].float(), torch.tensor(heat.shape[1:])
        cell = ((boxes[:, :2] + boxes[:, 2:]) / 2 / torch.tensor(batch.images.shape[-2:]) * grid).long()
        flat, is_there = cell[:, 0] * grid[1] + cell[:, 1], batch.labels > 0
        diameter = (boxes[:, 2] - boxes[:, 0]).clamp(min=1).log() / math.log(2) - 5
        gap = size.flatten(1).gather(1, flat[:, None])[:, 0] - diameter
        found: Tensor = (
            functional.cross_entropy(heat.flatten(1)[is_there], flat[is_there])
            + 0.5 * gap[is_there].square().mean()
            + functional.cross_entropy(presence(pooled), is_there.long())
        )
        return found

    fit([encoder, layer, presence], FINDER_STEPS, 2e-3, loss, "f_G")


class Vectors(NamedTuple):
    """What the frozen encoders say of L scenes.

    Attributes:
        glance: (L, F) pooled.
        patches: (L, 2, K, V, F) pooled: around the sign or anywhere, of each size, V of them.
        is_whole: (L, 2, K, V) bool, whether the patch shows the sign.
        labels: (L,) int64.
    """

    glance: Tensor
    patches: Tensor
    is_whole: Tensor
    labels: Tensor


@torch.inference_mode()
def encode(classifier: GlanceFocusClassifier, source: ArrayImages, views: int = 2) -> Vectors:
    """Encodes the glance and patches of all sizes of some scenes."""
    glances, patches, wholes = [], [], []
    for indices in torch.arange(len(source)).split(64):
        batch = source.fetch(indices)
        glances.append(classifier.glance(batch.images).pooled)
        pooled, is_whole = [], []
        for share, side, _ in itertools.product((1.0, 0.0), SPEC.patch_sizes, range(views)):
            location = places(batch, side, share)
            is_whole.append(visible_share(batch, location, side) >= _WHOLE)
            pooled.append(classifier.local_encoder.encode_pixels(crop_at(batch.images, location, side)).pooled)
        shape = (len(indices), 2, len(SPEC.patch_sizes), views)
        patches.append(torch.stack(pooled, dim=1).view(*shape, -1))
        wholes.append(torch.stack(is_whole, dim=1).view(shape))
    return Vectors(torch.cat(glances).clone(), torch.cat(patches).clone(), torch.cat(wholes), source.labels)


def train_head(head: Head, vectors: Vectors, seed: int) -> None:
    """f_C: the GRU on random sequences of stored vectors, 60 % of them around the sign.

    As long as no patch has shown the sign, all limits are equally right.
    """
    torch.manual_seed(seed)
    counts, num_rows = vectors.is_whole.shape[2:], 256

    def loss() -> Tensor:
        rows = torch.randint(len(vectors.labels), (num_rows,))
        labels = functional.one_hot(vectors.labels[rows], len(CLASS_NAMES)).float()
        any_limit = torch.full_like(labels, 1 / len(SPEED_LIMITS))
        any_limit[:, 0] = 0.0
        is_open = (vectors.labels[rows] > 0)[:, None]
        logits, hidden = head(vectors.glance[rows], None, torch.zeros(num_rows, head.hidden_size))
        losses = [functional.cross_entropy(logits, torch.where(is_open, any_limit, labels))]
        for _ in range(SPEC.num_glimpses - 1):
            is_anywhere = (torch.rand(num_rows) > 0.6).long()
            chosen = rows, is_anywhere, *(torch.randint(count, (num_rows,)) for count in counts)
            logits, hidden = head(vectors.patches[chosen], None, hidden)
            is_open = is_open & ~vectors.is_whole[chosen][:, None]
            losses.append(functional.cross_entropy(logits, torch.where(is_open, any_limit, labels)))
        return torch.stack(losses).mean()

    fit([head], HEAD_STEPS, 3e-3, loss, "f_C")


class Restricted(ReferencePolicy):
    """The reference without one of its decisions.

    Args:
        task: what it plays.
        number: always takes the patch size with this index; None chooses.
        stops: whether it stops; otherwise it takes the smallest patch until the end.
    """

    def __init__(self, task: Task, number: int | None = None, *, stops: bool = True) -> None:
        sizes = task.classifier.spec.patch_sizes
        super().__init__(task.source.image_size, sizes if number is None else sizes[number : number + 1])
        self._size = None if number is None else (2.0 * number + 1.0) / len(sizes) - 1.0
        self._stops = stops

    def act(self, view: View, names: Sequence[str]) -> Tensor:
        """See `ReferencePolicy.act`."""
        actions = super().act(view, names)
        stop, size = names.index("stop"), names.index("size")
        if self._size is not None:
            actions[:, size] = self._size
        if not self._stops:
            actions[actions[:, stop] > 0, size] = -1.0
            actions[:, stop] = -1.0
        return actions


def measure() -> None:
    """Plays the references on test scenes, and prints a row of a table for each."""
    env_id = SUITE["zoom_stop"].env_id
    env = as_sb3(gymnasium.make_vec(env_id, num_envs=100, split="test", num_scenes=1000, autoreset_mode="SAME_STEP"))
    task = env.get_attr("task")[0]
    make_env = MakeEnv(env_id, {})

    def stop(observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.tile(np.array([0, 0, 1, 0], np.float32), (env.num_envs, 1))

    policies: dict[str, Any] = {
        "random": train_random(make_env, 0, 0),
        "stops at once": stop,
        "reference": Restricted(task),
        **{f"always {side}": Restricted(task, number) for number, side in enumerate(SPEC.patch_sizes)},
        "never stops": Restricted(task, stops=False),
    }
    for name, policy in policies.items():
        env.seed(0)
        played = play(env, policy)
        returns = played.returns
        print(
            f"| {name} | {played.accuracy[-1]:.3f} | {played.looks.mean():.2f} | {returns.mean():.3f} | "
            f"{returns.std() / len(returns) ** 0.5:.3f} |",
            flush=True,
        )


def main() -> None:
    """Trains or measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", action="store_true", help="measure instead of training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.measure:
        measure()
    else:
        train(options.parts or PARTS, options.seed)


if __name__ == "__main__":
    main()
