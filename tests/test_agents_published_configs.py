"""The rows of Table 9 as configs: each is built and takes one step of every stage on tiny data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents.runs.config_files import load_config, shipped_configs
from classifiers.published import PUBLISHED
from scripts.cli import main

TABLE_9 = {
    ("resnet50", 96, 5),
    ("resnet50", 128, 5),
    ("densenet121", 96, 5),
    ("densenet169", 96, 5),
    ("densenet201", 96, 5),
    ("regnety_600m", 96, 5),
    ("regnety_800m", 96, 5),
    ("regnety_1.6g", 96, 5),
    ("mobilenetv3_large_100", 96, 3),
    ("mobilenetv3_large_100", 128, 3),
    ("mobilenetv3_large_125", 128, 3),
    ("efficientnet_b2", 128, 4),
    ("efficientnet_b3", 128, 4),
    ("efficientnet_b3", 144, 4),
}
NAMES = sorted(f"{encoder}_{side}" for encoder, side, _ in TABLE_9)


def test_every_row_has_its_config() -> None:
    rows = {
        (config.classifier.encoder, config.classifier.patch_size, config.classifier.num_glimpses)
        for config in (load_config(name) for name in shipped_configs() if name in NAMES)
    }

    assert rows == TABLE_9


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_those_of_appendix_a(name: str) -> None:
    config = load_config(name)
    encoder, head = config.classifier.encoder, config.classifier.head
    published = PUBLISHED[encoder]
    is_cascade = encoder.startswith(("mobilenet", "efficientnet"))
    assert config.stage1 is not None

    assert head == published.head == ("cascade" if is_cascade else "gru")
    assert config.classifier.resize_mode == published.resize_mode
    assert (config.data.height, config.data.crop_pct) == (published.image_size, published.crop_pct)
    assert config.data.interpolation == published.interpolation
    assert config.stage2.policy_options["extractor"] == published.proposal_network
    assert config.stage2.action_std_schedule == (0.1, 0.1) and config.stage2.options["gamma"] == 0.7
    assert config.stage2.env_steps == 15 * 1_281_167 * (config.classifier.num_glimpses - 1)
    assert config.stage1.regularization == (5.0 if is_cascade else 1.0)
    assert (config.stage1.global_lr == 0) == is_cascade
    assert config.stage1.head_lr == 0.1 and config.stage1.batch_size == 256
    assert config.stage1.weight_decay == (5e-5 if encoder.startswith("regnet") else 1e-4)
    assert config.stage3.epochs == (0 if encoder.startswith("efficientnet") else config.stage1.epochs)
    if config.stage3.epochs:
        assert config.stage3.head_lr == 0.01 and config.stage3.lr == config.stage1.lr
        assert (config.stage3.global_lr == 0) == is_cascade


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(root / split / label / "0.jpg")
    return root


QUICK = ("mobilenetv3_large_100_96",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_config_runs_through_every_stage(name: str, tree: Path, tmp_path: Path) -> None:
    """Images of 160 pixels, pi's two layers narrowed: the networks themselves are at full size."""
    config = load_config(name)
    steps = config.classifier.num_glimpses - 1
    changes = [
        f"data.root={tree}",
        "data.height=160",
        "data.width=160",
        "initialization.weights=null",
        "initialization.full_resolution.epochs=1",
        "initialization.low_resolution.epochs=1",
        "stage1.epochs=1",
        "stage2.num_envs=2",
        f"stage2.env_steps={2 * steps}",
        f"stage2.options.batch_size={2 * steps}",
        f"stage3.epochs={min(1, config.stage3.epochs)}",
        "oracle_grid=2",
        *(f"{stage}.num_workers=0" for stage in ("initialization.low_resolution", "stage1", "stage3")),
    ]
    if config.stage2.policy_options["extractor"] == "fc_1024":
        changes.append("stage2.policy_options.extractor=conv1x1_32")
    arguments = ["train", name, "--out", str(tmp_path / "run"), "--quiet"]

    assert main([*arguments, *[part for change in changes for part in ("--set", change)]]) == 0

    assert (tmp_path / "run" / "metrics.json").is_file()
