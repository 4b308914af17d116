"""The configs of clips: A.4's settings, and for one of them a step of every stage on a tiny tree of frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents.runs.config_files import ConfigError, built_in_configs, load_config
from scripts.cli import main

SOMETHING = {
    (version, frames): f"something_something_v{version}_{frames}" for version in (1, 2) for frames in (8, 12, 16)
}
JESTER = {side: f"jester_{side}" for side in (80, 96, 128)}
NAMES = [*SOMETHING.values(), *JESTER.values()]


@pytest.mark.parametrize(("version", "frames"), SOMETHING)
def test_something_something_is_that_of_appendix_a(version: int, frames: int) -> None:
    config = load_config(SOMETHING[version, frames])
    assert config.initialization is not None and config.stage1 is not None
    low = config.initialization.low_resolution

    assert config.data.kind == f"something_something_v{version}" and config.data.image_size == (224, 224)
    assert config.classifier.encoder == f"tsm{frames}:resnet50" and config.classifier.num_frames == frames
    assert (config.classifier.head, config.classifier.patch_sizes, config.classifier.num_glimpses) == (
        "cascade",
        (96,),
        3,
    )
    assert (low.epochs, low.lr) == (10, 0.1)
    assert (config.stage1.epochs, config.stage1.head_lr) == (30, 5e-3 if version == 1 else 0.01)


@pytest.mark.parametrize("side", JESTER)
def test_jester_is_that_of_appendix_a(side: int) -> None:
    config = load_config(JESTER[side])
    assert config.initialization is not None and config.stage1 is not None

    assert (config.data.kind, config.classifier.patch_sizes, config.classifier.num_glimpses) == ("jester", (side,), 3)
    assert config.initialization.low_resolution.lr == 0.01
    assert (config.stage1.epochs, config.stage1.head_lr) == (10, 0.01)


@pytest.mark.parametrize("name", NAMES)
def test_stages_are_those_of_appendix_a(name: str) -> None:
    """A.4: SGD, batches of 64; stage I trains f_C alone, stage II lasts 50 epochs, stage III is left out."""
    config = load_config(name)
    assert config.initialization is not None and config.stage1 is not None
    recordings = {"something_something_v1": 86_017, "something_something_v2": 168_913, "jester": 118_562}

    for stage in (config.initialization.low_resolution, config.stage1):
        assert (stage.optimizer, stage.batch_size, stage.weight_decay, stage.flip) == ("sgd", 64, 1e-4, False)
    assert set(config.stage1.frozen) == {"global_encoder", "local_encoder"} and config.stage3.epochs == 0
    assert config.stage2.env_steps == 50 * 2 * recordings[config.data.kind] and config.stage2.evaluations == 50
    assert config.stage2.agent == "ppo_gru" and config.stage2.options["batch_size"] == 2 * 256


def test_every_config_of_clips_is_tried() -> None:
    of_clips = {name for name in built_in_configs() if load_config(name).classifier.num_frames is not None}

    assert of_clips == {*NAMES, "synthetic_gestures"}


def test_images_and_clips_are_told_apart() -> None:
    with pytest.raises(ConfigError, match=r"data.kind=image_folder with .*tsm8:resnet18: the data are images, the enc"):
        load_config("image_folder", ["classifier.encoder=tsm8:resnet18"])
    with pytest.raises(
        ConfigError, match=r"data.kind=jester with .*: the data are clips, the encoder takes images; pa"
    ):
        load_config("jester_96", ["classifier.encoder=resnet50"])
    with pytest.raises(ConfigError, match=r"the data are clips of 8 frames, the encoder takes 4; pass an encoder such"):
        load_config("synthetic_gestures", ["classifier.encoder=tsm4:small_resnet"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["stage1.frozen=[encoder]"], "stage1.frozen='encoder'.*'local_encoder'"),
        (["stage1.frozen=[global_encoder, local_encoder, head]"], r"leaves nothing to train; pass stage1.epochs=0"),
        (["initialization.low_resolution.frozen=[head]"], "low_resolution.frozen"),
        (["classifier.head=average"], r"stage1.frozen=\['global_encoder', 'local_encoder'\] leaves nothing to train"),
        (
            ["classifier.shares_encoder=true", "stage1.frozen=[local_encoder]"],
            "shares_encoder the two encoders are one; name both or none",
        ),
    ],
)
def test_wrong_lists_of_frozen_parts_are_one_sentence(changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("jester_96", changes)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Four recordings of 9 frames in two classes, in TSM's lists."""
    root = tmp_path / "recordings"
    rng = np.random.default_rng(0)
    for folder in range(4):
        (root / str(folder)).mkdir(parents=True)
        for number in range(1, 10):
            frame = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
            frame.save(root / str(folder) / f"{number:05d}.jpg")
    (root / "category.txt").write_text("Swiping Left\nSwiping Right\n")
    (root / "train_videofolder.txt").write_text("0 9 0\n1 9 1\n")
    (root / "val_videofolder.txt").write_text("2 9 0\n3 9 1\n")
    return root


@pytest.mark.slow
@pytest.mark.usefixtures("blank_report")
def test_a_config_runs_through_every_stage(recordings: Path, tmp_path: Path) -> None:
    """Frames of 96 pixels, pi's two layers narrowed: the encoders themselves are at full size."""
    stages = ("initialization.full_resolution", "initialization.low_resolution", "stage1")
    changes = [
        *(f"data.root={recordings}", "data.height=96", "data.width=96", "initialization.weights=null"),
        *(f"{stage}.{key}" for stage in stages for key in ("epochs=1", "num_workers=0", "micro_batch_size=null")),
        *("stage2.num_envs=2", "stage2.env_steps=4", "stage2.options.batch_size=4", "stage2.evaluations=1"),
        *("stage2.policy_options.extractor=conv1x1_32", "oracle_grid=2", "fixed_place_grid=0"),
    ]

    assert main(["train", "jester_80", "--out", str(tmp_path / "run"), "--quiet", "--set", *changes]) == 0

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {len(values) for values in metrics["accuracy"].values()} == {3}
    trained = {json.loads(line)["stage"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()}
    assert trained >= {"full_resolution", "low_resolution_80", "stage1", "stage2"} and "stage3" not in trained
