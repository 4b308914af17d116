from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published_weights import checkpoint, recorded
from torch import Tensor, nn

from classifiers.data.drawings import load_scenes
from classifiers.data.source import ArrayImages
from classifiers.data.synthetic_signs.scenes import SceneSpec
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import ENCODERS, Encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import ADJUSTABLE, ClassifierSpec
from gfnet_env import EpisodeSpec, Task
from scripts.cli import main
from scripts.report import RESULTS

torch.set_num_threads(1)

SMALL_SCENES = SceneSpec(height=96, width=128)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests draw into a cache of their own and leave the user's alone."""
    before = os.environ.get("GFNET_CACHE")
    os.environ["GFNET_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["GFNET_CACHE"]
    else:
        os.environ["GFNET_CACHE"] = before


@pytest.fixture(scope="session")
def scenes() -> ArrayImages:
    return load_scenes(SMALL_SCENES, "train", 24)


TINY = [
    *("--set", f"data.scenes.height={SMALL_SCENES.height}", f"data.scenes.width={SMALL_SCENES.width}"),
    *("data.num_train=30", "data.num_val=20", "data.num_test=12"),
    *("stage2.num_envs=8", "stage2.env_steps=48", "oracle_grid=2"),
]
"""What makes `gfnet demo` a run of seconds that has all its files."""
TINIER = [
    *(*TINY, "data.num_train=12", "data.num_val=6", "data.num_test=6", "stage2.num_envs=2", "stage2.env_steps=12"),
    *("stage2.options.n_steps=6", "fixed_place_grid=2"),
    "stage2.policy_options={extractor: {conv_channels: 2, units: 8}}",
]
"""Likewise, where several are made."""


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`gfnet demo` with `TINY`; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    assert main(["demo", "--out", str(folder), "--quiet", *TINY]) == 0
    return folder


@pytest.fixture
def blank_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write empty files for a report, which takes longer to draw than a tiny run to train."""

    def write_nothing(run: object, source: object, folder: Path) -> None:
        for name in RESULTS:
            (folder / name).touch()

    monkeypatch.setattr("scripts.commands.write_report", write_nothing)


class Notes:
    """A reporter that keeps the notes, and in `heard` the titles of trainings as well, in order."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.heard: list[str] = []

    def track(self, title: str) -> Callable[[int, int, dict[str, float]], None]:
        self.heard.append(title)
        return lambda done, total, figures: None

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.heard.append(text)


def random_classifier(spec: ClassifierSpec, num_classes: int = 10, seed: int = 0) -> GlanceFocusClassifier:
    """Random weights and batch statistics that are not trivial, so that folding them is a real test."""
    torch.manual_seed(seed)
    classifier = GlanceFocusClassifier(spec, num_classes).eval()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return classifier


@pytest.fixture(scope="session")
def classifier() -> FrozenClassifier:
    """The built-in task's shape, random weights."""
    return frozen(
        random_classifier(ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=4, hidden_size=16))
    )


@pytest.fixture(scope="session")
def clip_classifier() -> FrozenClassifier:
    """Of clips of four frames with three classes, random weights."""
    spec = ClassifierSpec(encoder="tsm4:small_resnet", head="cascade", patch_size=32, num_glimpses=3)
    return frozen(random_classifier(spec, 3))


def with_rules(source: ArrayImages, classifier: FrozenClassifier, rules: dict[str, Any]) -> tuple[Task, EpisodeSpec]:
    """A task and its rules from one set of keyword arguments, as `gymnasium.make` takes them."""
    sizes = {key: rules[key] for key in ADJUSTABLE if key in rules}
    episode = EpisodeSpec(**{key: value for key, value in rules.items() if key not in sizes})
    return Task(source, classifier.with_spec(**sizes)), episode


def expected_checker_warnings(test: Callable[..., None]) -> Callable[..., None]:
    """Ignores what the checkers of Gymnasium and SB3 say of our observations, and no other warning."""
    messages = (
        "It seems that your observation features is an image",  # SB3 takes every box of three dimensions for one
        "It seems that your observation space features is an image",
        "Treating image space as channels-last",
        "The minimal resolution for an image is 36x36",
        "Your observation locations has an unconventional shape",  # a list of points
        ".*A Box observation space m..imum value is -?infinity",  # feature maps and hidden states have no bounds
    )
    for message in messages:
        test = pytest.mark.filterwarnings(f"ignore:{message}:UserWarning")(test)
    return test


class _MeanColor(nn.Module):
    """(B, 3, H, W) -> (B, 3, 1, 1): the mean of each channel; tests read off what was looked at."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3), keepdim=True)


def _mean_color(num_classes: int, weights: str | None) -> Encoder:
    classifier = nn.Linear(3, num_classes, bias=False)
    with torch.no_grad():
        classifier.weight.copy_(torch.eye(num_classes, 3))
    return Encoder(_MeanColor(), nn.Flatten(), classifier)


@pytest.fixture
def color_classifier(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FrozenClassifier]:
    """A classifier of two classes whose logits are the running mean of the patches' (red, green) means, normalized."""
    monkeypatch.setitem(ENCODERS, "mean_color", _mean_color)

    def make(patch_size: int = 8, num_glimpses: int = 3) -> FrozenClassifier:
        spec = ClassifierSpec(
            encoder="mean_color", head="average", patch_size=patch_size, num_glimpses=num_glimpses, resize_mode="area"
        )
        return frozen(GlanceFocusClassifier(spec, 2))

    return make


@pytest.fixture
def red_corner_images() -> ArrayImages:
    """Gray 32x32 images, the bottom-right 8x8 pixels bright red; class 0 is told by red, so one place alone is good."""
    images = torch.full((4, 3, 32, 32), 120, dtype=torch.uint8)
    images[:, 0, 24:, 24:] = 255
    images[:, 1, 24:, 24:] = 0
    box = torch.tensor([[[24, 24, 32, 32]]]).repeat(4, 1, 1)
    return ArrayImages(images, torch.zeros(4, dtype=torch.int64), box, ("red", "green"))


@pytest.fixture
def picture_tree(tmp_path: Path) -> Path:
    """A class-per-folder tree of 96x128 road scenes as JPEG: two classes, 12 pictures each to train on, 6 to test."""
    images = load_scenes(SMALL_SCENES, "val", 36)
    for index in range(36):
        split = "train" if index < 24 else "val"
        folder = tmp_path / "tree" / split / ("left" if index % 2 else "right")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.images[index].permute(1, 2, 0).numpy()).save(folder / f"{index}.jpg", quality=90)
    return tmp_path / "tree"


@pytest.fixture
def wordnet_tree(picture_tree: Path) -> Path:
    """`picture_tree` with two ImageNet ids for classes: English springer and church, its labels 217 and 497."""
    for split in ("train", "val"):
        for name, wordnet_id in (("left", "n02102040"), ("right", "n03028079")):
            (picture_tree / split / name).rename(picture_tree / split / wordnet_id)
    return picture_tree


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published file of the smallest model, as the authors saved it: with results in NumPy."""
    content = checkpoint(recorded("mobilenetv3_large_100"))
    content["flops"] = [43.1e6, 86.9e6, 131.3e6]
    content["dynamic_threshold"] = np.linspace(0.0, 1.0, 6).reshape(2, 3)
    content["anytime_classification"] = torch.tensor([61.5, 67.0, 68.8])
    path = tmp_path_factory.mktemp("published") / "mobilenet.pth.tar"
    torch.save(content, path)
    return path


@pytest.fixture(scope="session")
def imagenet_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet at its smallest: two pictures of each of 1,000 classes would be slow, so the classes share them."""
    root = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    picture = root / "picture.png"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(picture)
    for split in ("train", "val"):
        for label in range(1000):
            folder = root / split / f"n{label:08d}"
            folder.mkdir(parents=True)
            (folder / "0.png").symlink_to(picture)
    return root
