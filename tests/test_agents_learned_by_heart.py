"""Networks that know the training images by heart leave a policy nothing to learn, and the run says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Notes

from agents.runs.config_files import load_config
from agents.runs.pipeline import Pipeline
from classifiers.inference.frozen import frozen


@pytest.mark.parametrize(("epochs", "is_said"), [(1, False), (80, True)])
def test_it_is_said_before_stage_2(epochs: int, is_said: bool, picture_tree: Path, tmp_path: Path) -> None:
    shutil.copytree(picture_tree / "val", picture_tree / "test")
    small = [
        *(f"data.root={picture_tree}", "data.height=48", "data.width=64", "classifier.feature_stride=null"),
        *("classifier.encoder=small_resnet", "initialization.weights=null", "classifier.patch_size=24"),
        *(f"initialization.{stage}.min_steps=null" for stage in ("full_resolution", "low_resolution")),
        *(f"initialization.{stage}.freeze_statistics=false" for stage in ("full_resolution", "low_resolution")),
        *(f"initialization.{stage}.shift_px=0" for stage in ("full_resolution", "low_resolution")),
        *("initialization.full_resolution.epochs=1", f"initialization.low_resolution.epochs={epochs}"),
        *("initialization.low_resolution.lr=0.003", "stage1.epochs=1", "stage1.min_steps=null", "stage1.lr=1e-6"),
        *("stage2.env_steps=24", "stage2.num_envs=8", "stage2.agent=a2c", "stage2.options={}"),
    ]
    reporter = Notes()
    pipeline = Pipeline(load_config("image_folder", small), tmp_path / "run", reporter)

    pipeline.stage2(frozen(pipeline.stage1()), pipeline.files)

    said = [text for text in reporter.notes if "by heart" in text]
    assert len(said) == is_said
    if is_said:
        assert "right on 1.00 of the training images and on 0." in said[0]
