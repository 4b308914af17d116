"""Trains the classifiers of the suite's drawn tasks, and measures what random places and the reference reach on them.

    python benchmarks/suite_classifiers.py             # trains: gfnet_env/weights_suite/TASK.safetensors
    python benchmarks/suite_classifiers.py --heads     # the same, with the encoders that the files hold
    python benchmarks/suite_classifiers.py --cached    # trains heads: gfnet_env/weights_cached/TASK.safetensors
    python benchmarks/suite_classifiers.py --measure   # measures: a line of JSON for each id

The classifier of a task is a referee: it is trained with boxes, which the agent never sees. All tasks share two frozen
encoders. f_L reads one patch: which boards are whole in it. f_G reads the glance: where boards are, but not what is on
them. Only the GRU of a task is its own. It is trained on stored vectors of patches, most of them at the boxes in any
order, the others at random places, with the loss of Eq. (6) and lambda 0, because a patch alone can't tell the class.
The cached ids have the same encoders; their GRUs continue from these and learn from crops of feature maps.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from fitting import batches, fit
from torch import Tensor, nn
from torch.nn import functional

from agents.policies.baselines import (
    CenterCornerPolicy,
    RandomPolicy,
    ReferencePolicy,
    ScanPolicy,
    center_location,
)
from agents.policies.protocol import LocationPolicy
from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.data.drawings import load_scenes
from classifiers.data.drawn_tasks.boards import (
    DIRECTIONS,
    LETTERS,
    Placed,
    centered_at,
    draw_board,
    photographed,
    scattered,
)
from classifiers.inference.cached import CachedClassifier, encode_whole
from classifiers.networks.encoders import Encoder, build_encoder
from classifiers.networks.geometry import crop_at, resize, top_left_px
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import ClassifierSpec
from classifiers.tensor_files import write_tensors
from gfnet_env import TASKS
from gfnet_env.actions import to_action
from gfnet_env.drawn_tasks import WEIGHTS, cached_weights
from gfnet_env.suite import CACHED, SUITE, SuiteTask

PATCH, GLANCE, STRIDE = 64, 32, 4
"""Sides of patch and glance, and the stride of the feature maps, all in pixels."""

HEIGHT, WIDTH = 192, 256
_LIMITS = (30, 50, 80)
_KINDS = 10 + 1 + 16 + len(_LIMITS)  # digits, any letter, arrows, limits
_GROUPS = 3  # what the glance tells apart: discs, signs with an arrow, speed limits
_TRAINED = {name: task for name, task in SUITE.items() if name != "zoom_stop"}  # that has a program of its own
_IN_ORDER = ("pointer",)  # a look at a box counts only after one at the box before it
_VAL_SCENES, _TEST_SCENES = 500, 1000


class Board(NamedTuple):
    """A board of a training scene: its place, what it says in [0, _KINDS), and its group in [0, _GROUPS)."""

    placed: Placed
    kind: int
    group: int


class TrainingScenes(NamedTuple):
    """Scenes with boards of all kinds, to train the encoders on.

    Attributes:
        images: (L, 3, H, W) uint8.
        boxes: (L, M, 4) int64, zeros where there is none.
        kinds: (L, M) int64; -1 where there is none.
        groups: (L, M) int64; -1 where there is none.
    """

    images: Tensor
    boxes: Tensor
    kinds: Tensor
    groups: Tensor


def draw_training_scenes(count: int, seed: int) -> TrainingScenes:
    """Scenes with boards of all kinds: scattered, or in two rings round a sign."""
    most = 17
    boxes = torch.zeros(count, most, 4, dtype=torch.int64)
    kinds, groups = torch.full((count, most), -1), torch.full((count, most), -1)
    images = []
    for index in range(count):
        rng = random.Random(f"suite/{seed}/{index}")
        boards = _rings(rng) if rng.random() < 0.3 else _scattered_boards(rng)
        images.append(photographed(rng, HEIGHT, WIDTH, [board.placed for board in boards]))
        for number, board in enumerate(boards):
            boxes[index, number] = torch.tensor(board.placed.box)
            kinds[index, number], groups[index, number] = board.kind, board.group
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return TrainingScenes(pixels, boxes, kinds, groups)


def _scattered_boards(rng: random.Random) -> list[Board]:
    count = rng.randint(3, 8)
    return [_board(rng, rng.randrange(4), *center) for center in scattered(rng, HEIGHT, WIDTH, count, 20, 42)]


def _rings(rng: random.Random) -> list[Board]:
    row, column = rng.randint(88, HEIGHT - 88), rng.randint(106, WIDTH - 106)
    boards = [_board(rng, 2, row, column)]
    for down, right in DIRECTIONS:
        for ring in (1, 2):
            boards.append(_board(rng, rng.randrange(2), row + 37 * ring * down, column + 46 * ring * right, 24))
    return boards


def _board(rng: random.Random, family: int, row: float, column: float, diameter: float | None = None) -> Board:
    """A digit, a letter, an arrow or a limit, by the number of its family."""
    disc_px = rng.uniform(22, 30) if diameter is None else diameter
    if family == 0:
        value = rng.randrange(10)
        return Board(centered_at(draw_board(rng, "digit", disc_px, value), row, column), value, 0)
    if family == 1:
        value = rng.randrange(len(LETTERS))
        return Board(centered_at(draw_board(rng, "letter", disc_px, value), row, column), 10, 0)
    if family == 2:
        value = rng.randrange(16)
        return Board(centered_at(draw_board(rng, "arrow", 30, value), row, column), 11 + value, 1)
    value = rng.randrange(len(_LIMITS))
    picture = draw_board(rng, "speed_limit", rng.uniform(30, 36), _LIMITS[value])
    return Board(centered_at(picture, row, column), 27 + value, 2)


# --- the encoders ----------------------------------------------------------------------------------------------------


def train_reader(scenes: TrainingScenes, epochs: int, seed: int) -> Encoder:
    """f_L: which kinds of boards are whole in a patch; boards that are cut are not counted in the loss."""
    torch.manual_seed(seed)
    encoder = build_encoder("small_resnet", _KINDS)
    drawn = batches(len(scenes.images), 32)

    def loss() -> Tensor:
        patches, targets = _patches(scenes, next(drawn))
        logits = encoder.classifier(encoder.encode_pixels(patches).pooled)
        known = targets >= 0
        return functional.binary_cross_entropy_with_logits(logits[known], targets[known]) * _KINDS

    fit([encoder], epochs * -(-len(scenes.images) // 32), 2e-3, loss, "f_L")
    return encoder


def _patches(scenes: TrainingScenes, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Patches near six boards and at two random places of each scene, and which kinds they hold: 1, 0, or -1, cut."""
    boxes, kinds = scenes.boxes[indices], scenes.kinds[indices]
    count = len(indices)
    near = _near(boxes, (kinds >= 0).float().multinomial(6, replacement=True), PATCH, jitter=20)
    places = torch.cat([near, torch.rand(count, 2, 2)], dim=1).flatten(0, 1)  # (8 B, 2)
    which = torch.arange(count).repeat_interleave(8)
    patches = crop_at(scenes.images[indices], places, PATCH, which)
    corner = top_left_px(places, (HEIGHT, WIDTH), PATCH)[:, None]  # (8 B, 1, 2)
    boxes, kinds = boxes[which], kinds[which]
    is_whole = ((boxes[..., :2] >= corner - 1) & (boxes[..., 2:] <= corner + PATCH + 1)).all(dim=2)
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    is_out = ((center < corner) | (center >= corner + PATCH)).any(dim=2)
    targets = torch.zeros(len(which), _KINDS)
    for state, value in ((~is_whole & ~is_out, -1.0), (is_whole, 1.0)):
        rows, numbers = torch.nonzero(state & (kinds >= 0), as_tuple=True)
        targets[rows, kinds[rows, numbers]] = value
    return patches, targets


def _near(boxes: Tensor, chosen: Tensor, patch: int, jitter: int) -> Tensor:
    """(B, M, 2) locations of patches at most `jitter` pixels from centered on the chosen boxes (B, M).

    Where an image has no such box, they are random.
    """
    picked = boxes.gather(1, chosen[..., None].expand(-1, -1, 4))
    moved = picked + torch.randint(-jitter, jitter + 1, (*chosen.shape, 2)).repeat(1, 1, 2)
    side = torch.full((moved.shape[0] * moved.shape[1],), patch)
    near = center_location(moved.flatten(0, 1), torch.tensor((HEIGHT, WIDTH)), side).view(*chosen.shape, 2)
    is_there = picked.any(dim=2, keepdim=True)
    return near if is_there.all() else torch.where(is_there, near, torch.rand(near.shape))


def train_finder(scenes: TrainingScenes, epochs: int, seed: int) -> Encoder:
    """f_G: at each position of its map, whether the center of a board is there, of which group, and where exactly."""
    torch.manual_seed(seed)
    encoder = build_encoder("small_resnet", _GROUPS)
    encoder.use_feature_stride(STRIDE, "small_resnet")
    glances = torch.cat([resize(some, (GLANCE, GLANCE), "area") for some in scenes.images.split(250)])
    cells = GLANCE // STRIDE
    heat, offset = _maps(scenes, cells)
    read = nn.Conv2d(32, _GROUPS + 2, 1)  # thrown away afterwards
    drawn = batches(len(glances), 64)

    def loss() -> Tensor:
        indices = next(drawn)
        maps, pooled = encoder.encode_pixels(glances[indices])
        found = read(maps)
        is_there = heat[indices].amax(dim=1, keepdim=True)
        presence = heat[indices].amax(dim=(2, 3))
        wrong: Tensor = (
            functional.binary_cross_entropy_with_logits(found[:, :_GROUPS], heat[indices])
            + ((found[:, _GROUPS:] - offset[indices]).square() * is_there).sum() / is_there.sum()
            + 0.1 * functional.binary_cross_entropy_with_logits(encoder.classifier(pooled), presence)
        )
        return wrong

    fit([encoder, read], epochs * -(-len(glances) // 64), 2e-3, loss, "f_G")
    return encoder


def _maps(scenes: TrainingScenes, cells: int) -> tuple[Tensor, Tensor]:
    """(L, groups, h, w) where centers of boards are, and (L, 2, h, w) how far from the cell's, in halves of a cell."""
    count = len(scenes.images)
    heat, offset = torch.zeros(count, _GROUPS, cells, cells), torch.zeros(count, 2, cells, cells)
    center = (scenes.boxes[..., :2] + scenes.boxes[..., 2:]) / 2 * cells / torch.tensor((HEIGHT, WIDTH))
    index, number = torch.nonzero(scenes.kinds >= 0, as_tuple=True)
    place = center[index, number]
    row, column = place.long().unbind(1)
    heat[index, scenes.groups[index, number], row, column] = 1.0
    offset[index, :, row, column] = 2 * (place - place.floor()) - 1
    return heat, offset


# --- the heads -------------------------------------------------------------------------------------------------------


class Vectors(NamedTuple):
    """What the frozen encoders say of some scenes.

    Attributes:
        glance: (L, F) pooled.
        at_boxes: (L, N, V, F) pooled vectors of patches near each box, V of them.
        elsewhere: (L, R, F) pooled vectors of patches at random places.
        labels: (L,) int64.
    """

    glance: Tensor
    at_boxes: Tensor
    elsewhere: Tensor
    labels: Tensor


@torch.inference_mode()
def encode(classifier: GlanceFocusClassifier, task: SuiteTask, split: str, count: int, seed: int) -> Vectors:
    """Encodes the glance and patches of some scenes of a task."""
    torch.manual_seed(seed)
    source = load_scenes(task.spec, split, count)
    views, elsewhere = 3, 6
    parts: list[tuple[Tensor, ...]] = []
    for indices in torch.arange(count).split(50):
        images, labels, boxes = source.fetch(indices)
        numbers = torch.arange(source.num_boxes).repeat_interleave(views).expand(len(images), -1)
        near = _near(boxes, numbers, classifier.spec.patch_size, jitter=16)
        places = torch.cat([near, torch.rand(len(images), elsewhere, 2)], dim=1)
        which = torch.arange(len(images)).repeat_interleave(places.shape[1])
        pooled = classifier.encode_at(images, places.flatten(0, 1), which).pooled.view(*places.shape[:2], -1)
        seen = pooled[:, :-elsewhere].unflatten(1, (source.num_boxes, views))
        parts.append((classifier.glance(images).pooled, seen, pooled[:, -elsewhere:], labels))
    return Vectors(*(torch.cat(columns).clone() for columns in zip(*parts, strict=True)))


def train_head(classifier: GlanceFocusClassifier, vectors: Vectors, steps: int, seed: int, in_order: bool) -> None:
    """f_C: a GRU on sequences of stored vectors, most of them near the boxes, in any order.

    If what counts is the order, a look at a box before its turn shows that of another scene, so the GRU learns to
    make nothing of it.
    """
    torch.manual_seed(seed)
    head = classifier.head

    def loss() -> Tensor:
        rows = torch.randint(len(vectors.labels), (256,))
        hidden, losses = torch.zeros(len(rows), classifier.hidden_size), []
        for seen in _sequence(vectors, rows, classifier.spec.num_glimpses, in_order):
            logits, hidden = head(seen, None, hidden)
            losses.append(functional.cross_entropy(logits, vectors.labels[rows]))
        return torch.stack(losses).mean()

    fit([head], steps, 4e-3, loss, "f_C", max_norm=1.0)


def _sequence(vectors: Vectors, rows: Tensor, num_steps: int, in_order: bool) -> list[Tensor]:
    """T vectors (B, F): the glance, then boxes in an order of their own for each row, or random places.

    In a third of the rows all looks are at boxes, in the others a share that is drawn. Boxes that have all been seen
    are seen again.
    """
    count, boxes, views = len(rows), vectors.at_boxes.shape[1], vectors.at_boxes.shape[2]
    share = torch.where(torch.rand(count) < 1 / 3, torch.ones(count), torch.rand(count))
    order = torch.rand(count, boxes).argsort(dim=1)
    if boxes == 2:  # their own order is the one that matters
        order = torch.where(torch.rand(count, 1) < 0.5, torch.tensor([[0, 1]]), order)
    seen, taken = [vectors.glance[rows]], torch.zeros(count, dtype=torch.int64)
    due = torch.zeros(count, dtype=torch.int64)
    for _ in range(num_steps - 1):
        at_box = torch.rand(count) < share
        number = order.gather(1, (taken % boxes)[:, None])[:, 0]
        of_scene = torch.where(number <= due, rows, rows[torch.randperm(count)]) if in_order else rows
        near = vectors.at_boxes[of_scene, number, torch.randint(views, (count,))]
        other = vectors.elsewhere[rows, torch.randint(vectors.elsewhere.shape[1], (count,))]
        seen.append(torch.where(at_box[:, None], near, other))
        taken += at_box
        due += at_box & (number == due)
    return seen


def train(scale: float, names: list[str]) -> None:
    """Trains the encoders, then a head for each task; `scale` below 1 is for a quick look."""
    scenes = draw_training_scenes(int(4000 * scale), seed=0)
    reader, finder = train_reader(scenes, 10, seed=0), train_finder(scenes, 30, seed=0)
    for name in names:
        task = SUITE[name]
        spec = ClassifierSpec(
            encoder="small_resnet",
            patch_size=PATCH,
            glance_size=GLANCE,
            num_glimpses=task.num_glimpses,
            hidden_size=64,
            resize_mode="area",
            feature_stride=4,
        )
        classifier = GlanceFocusClassifier(spec, len(task.spec.classes))
        _copy_trunk(reader, classifier.local_encoder)
        _copy_trunk(finder, classifier.global_encoder)
        _train_task(classifier, task, scale, name)


def train_heads(scale: float, names: list[str]) -> None:
    """Trains the heads of tasks anew, whose scenes have changed but not their boards."""
    for name in names:
        task = SUITE[name]
        trained, _ = load_classifier(WEIGHTS / f"{name}.safetensors")
        spec = trained.spec.replace(num_glimpses=task.num_glimpses)
        classifier = GlanceFocusClassifier(spec, len(task.spec.classes))
        _copy_trunk(trained.local_encoder, classifier.local_encoder)
        _copy_trunk(trained.global_encoder, classifier.global_encoder)
        _train_task(classifier, task, scale, name)


def _train_task(classifier: GlanceFocusClassifier, task: SuiteTask, scale: float, name: str) -> None:
    classifier.eval()
    vectors = encode(classifier, task, "train", int(12_000 * scale), seed=1)
    train_head(classifier, vectors, int(8000 * scale), seed=0, in_order=name in _IN_ORDER)
    save_classifier(WEIGHTS / f"{name}.safetensors", classifier, task.spec.classes)
    print(f"{name}: {(WEIGHTS / f'{name}.safetensors').stat().st_size // 1000} kB", flush=True)


def train_cached(scale: float, names: list[str]) -> None:
    """Trains the heads of cached tasks on, from those of the tasks themselves."""
    for name in names:
        task = CACHED[name]
        encoders, head = cached_weights(task.spec)
        networks, _ = load_classifier(encoders)
        few = load_scenes(task.spec, "val", 1)  # the maps of others are computed where they are needed
        classifier = CachedClassifier(networks, few, encode_whole(networks, few.images))
        vectors = encode(classifier, task, "train", int(6000 * scale), seed=1)
        train_head(networks, vectors, int(4000 * scale), seed=0, in_order=name in _IN_ORDER)
        write_tensors(head, "gfnet-head", {}, networks.head.state_dict())
        print(f"{name}: {head.stat().st_size // 1000} kB", flush=True)


@torch.no_grad()
def _copy_trunk(trained: Encoder, encoder: Encoder) -> None:
    """Copies the weights of a trunk, whichever maps it gives; the encoder's own classifier says nothing."""
    tensors = zip(trained.trunk.state_dict().values(), encoder.trunk.state_dict().values(), strict=True)
    for one, other in tensors:
        other.copy_(one)
    for parameter in encoder.classifier.parameters():
        parameter.zero_()


# --- what is reached -------------------------------------------------------------------------------------------------


class Played(NamedTuple):
    """Means over episodes: accuracy after each of the T steps, and the return."""

    accuracy: list[float]
    earned: float


@torch.inference_mode()
def play(env_id: str, policy: LocationPolicy, count: int = _TEST_SCENES) -> Played:
    """Plays an id's own environment on its first test images."""
    arguments: dict[str, Any] = {"num_clips" if "Gestures" in env_id else "num_scenes": count, "split": "test"}
    num_envs = 100
    envs = gymnasium.make_vec(env_id, num_envs=num_envs, autoreset_mode="DISABLED", **arguments)
    dynamics = envs.unwrapped.dynamics  # type: ignore[attr-defined]  # ours
    right, earned = [], []
    for start in range(0, count, num_envs):
        _, info = envs.reset(seed=start, options={"index": np.arange(start, start + num_envs)})
        by_step, total, state = [info["prediction"] == info["label"]], np.zeros(num_envs), None
        for _ in range(dynamics.num_glimpses - 1):
            location, state = policy(dynamics.view(), state)
            _, reward, _, _, info = envs.step(to_action(location))
            by_step.append(info["prediction"] == info["label"])
            total += reward
        right.append(np.stack(by_step))
        earned.append(total)
    envs.close()
    accuracy = np.concatenate(right, axis=1).mean(axis=1)
    return Played(accuracy.round(4).tolist(), round(float(np.concatenate(earned).mean()), 4))


def measure(env_id: str) -> dict[str, Played]:
    """Plays random places, a scan, the center and the corners, and the reference."""
    task = TASKS[env_id].make_task()
    size, sides = task.source.image_size, task.classifier.spec.patch_sizes
    policies: dict[str, LocationPolicy] = {
        "random": RandomPolicy(0),
        "scan": ScanPolicy(size, sides[-1]),
        "center_corner": CenterCornerPolicy(),
        "reference": ReferencePolicy(size, sides),
    }
    return {name: play(env_id, policy) for name, policy in policies.items()}


def main() -> None:
    """Trains the classifiers, or measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(_TRAINED)}, or ids to measure")
    parser.add_argument("--heads", action="store_true", help="train the heads alone")
    parser.add_argument("--cached", action="store_true", help="train the heads of the cached tasks")
    parser.add_argument("--measure", action="store_true", help="measure instead of training")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the training, for a quick look")
    parser.add_argument("--out", type=Path, help="file for what is measured, instead of the terminal")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.cached:
        train_cached(options.scale, options.tasks or list(CACHED))
        return
    if not options.measure:
        (train_heads if options.heads else train)(options.scale, options.tasks or list(_TRAINED))
        return
    for env_id in options.tasks or [task.env_id for task in _TRAINED.values()]:
        line = json.dumps({"id": env_id, **{name: found._asdict() for name, found in measure(env_id).items()}})
        print(line, flush=True)
        if options.out is not None:
            with open(options.out, "a", encoding="utf-8") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
