"""Runs whose episodes have other rules, and the harder preset."""

from __future__ import annotations

import math
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml
from conftest import SMALL_SCENES, random_classifier

from agents.evaluation.rollout import evaluate
from agents.policies.baselines import OraclePolicy
from agents.runs.config_files import dump_config, load_config
from agents.runs.run import load_recognizer, load_run
from classifiers.checkpoints import load_classifier
from classifiers.data.source import ArrayImages
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import GlanceFocusEnv, Task
from gfnet_env.drawn_tasks import HARD_SCENES
from scripts.cli import main

HARD = "GFNet-SyntheticSignsHard-v0"
SHRUNK = [
    *(f"data.scenes.height={SMALL_SCENES.height}", f"data.scenes.width={SMALL_SCENES.width}"),
    *("data.num_train=12", "data.num_val=6", "data.num_test=6"),
    *("stage2.num_envs=4", "stage2.env_steps=8", "stage2.options.n_steps=2", "stage3.epochs=1"),
    *("oracle_grid=2", "fixed_place_grid=2"),
]


@pytest.mark.usefixtures("blank_report")
def test_runs_have_the_rules_of_their_config(tmp_path: Path, scenes: ArrayImages) -> None:
    """Everything is done at the config's sizes, whatever those of the run that it starts from."""
    out = tmp_path / "run"
    sizes = ("classifier.patch_size=32", "classifier.glance_size=64", "classifier.num_glimpses=3")
    changes = [*SHRUNK, *sizes, "stage2.episode={observe: [hidden], step_cost: 0.01}"]

    assert main(["train", "demo", "--out", str(out), "--quiet", "--set", *changes]) == 0

    run = load_run(out)
    assert (run.classifier.spec.patch_size, run.classifier.spec.glance_side) == (32, 64)
    assert load_classifier(out / "stage3" / "classifier.safetensors")[0].spec.glance_size == 64
    env = GlanceFocusEnv(Task(scenes, run.classifier), run.config.stage2.episode)
    costs = env.dynamics.costs
    recognizer = load_recognizer(out)
    found = recognizer.predict(scenes.images)
    assert found.multiply_adds[0] == costs[:3].sum() + 2 * run.policy.multiply_adds
    assert np.allclose(found.locations[0, 0], recognizer.predict(scenes.images[:1]).locations[0, 0], atol=1e-6)
    assert main(["render", str(out), "--images", "0", "--quiet"]) == 0


def test_the_harder_preset_is_an_id_and_a_config() -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=4, hidden_size=8)
    env = gymnasium.make(HARD, classifier=random_classifier(spec), num_scenes=6)

    observation, _ = env.reset(seed=0)

    assert observation in env.observation_space
    assert env.unwrapped.dynamics.source.image_size == (240, 320)  # type: ignore[attr-defined]  # ours
    boxes = env.unwrapped.dynamics.source.boxes  # type: ignore[attr-defined]  # ours
    heights = (boxes[:, 0, 2] - boxes[:, 0, 0])[boxes.any(dim=(1, 2))]
    assert heights.min() >= 24 and heights.max() <= 34
    config = load_config("synthetic_signs_hard")
    assert config.data.scenes == HARD_SCENES
    assert config.classifier == load_config("synthetic_signs_240x320").classifier
    assert yaml.safe_load(dump_config(config))["data"]["scenes"]["max_distractors"] == 5
    assert math.isclose(240 * 320 / 48**2, 960 * 1280 / 192**2)  # Table 4


def test_the_harder_preset_works_bare() -> None:
    """With the weights that come with the package, the oracle reads nearly every sign by its first patch."""
    env = gymnasium.make(HARD, split="val", num_scenes=40)
    networks = env.unwrapped.dynamics.classifier  # type: ignore[attr-defined]  # ours

    record = evaluate(networks, env.unwrapped.dynamics.source, OraclePolicy(networks, 9), num_steps=2)  # type: ignore[attr-defined]  # ours

    glance, focus = (record.prediction == record.label[:, None]).mean(axis=0)
    assert glance < 0.6 and focus > 0.9
