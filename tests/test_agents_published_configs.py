"""The rows of Table 9 as configs; one of each family takes a step of every stage on tiny data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from agents.algorithms.ppo_gru import PPOGRU
from agents.runs.config_files import built_in_configs, load_config
from agents.runs.run import new_agent, policy_env
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.published import PUBLISHED
from classifiers.training.fit_spec import OPTIMIZERS
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
MULTISCALE = {"ms_resnet50": (96, (96, 128, 160)), "ms_efficientnet_b3": (128, (128, 160, 192))}
"""A.3: the glance's and the patches' sizes; T = 4."""
ROWS = sorted(f"{encoder}_{side}" for encoder, side, _ in TABLE_9)
NAMES = [*ROWS, *MULTISCALE]


def test_every_row_has_its_config() -> None:
    rows = {
        (config.classifier.encoder, config.classifier.patch_size, config.classifier.num_glimpses)
        for config in (load_config(name) for name in built_in_configs() if name in ROWS)
    }

    assert rows == TABLE_9


@pytest.mark.parametrize("name", MULTISCALE)
def test_multiscale_networks_have_the_sizes_of_appendix_a(name: str) -> None:
    spec = load_config(name).classifier

    assert (spec.glance_side, spec.patch_sizes) == MULTISCALE[name] and spec.num_glimpses == 4


class Family(NamedTuple):
    """What A.1 to A.3 say of a family of backbones, `pi` as in `PROPOSAL_NETWORKS`."""

    head: str
    pi: str
    lr: float
    weight_decay: float
    regularization: float
    epochs: int


APPENDIX_A = {
    "resnet": Family("gru", "fc_1024", 0.01, 1e-4, 1.0, 60),
    "densenet": Family("gru", "fc_1024", 0.01, 1e-4, 1.0, 60),
    "regnet": Family("gru", "conv1x1_32", 0.02, 5e-5, 1.0, 60),
    "mobilenet": Family("cascade", "conv1x1_32", 0.005, 1e-4, 5.0, 90),
    "efficientnet": Family("cascade", "conv1x1_32", 0.005, 1e-4, 5.0, 30),
}


def _family(encoder: str) -> str:
    (name,) = (name for name in APPENDIX_A if encoder.startswith(name))
    return name


@pytest.mark.parametrize("name", NAMES)
def test_stages_one_and_three_are_those_of_appendix_a(name: str) -> None:
    """A.3: SGD, mini-batches of 256, f_C at 0.1, then 0.01; f_G of the cascades is fixed; EfficientNets end with II."""
    config = load_config(name)
    family = _family(config.classifier.encoder)
    paper = APPENDIX_A[family]
    stage1, stage3 = config.stage1, config.stage3
    assert stage1 is not None

    assert config.classifier.head == paper.head
    assert paper.head == "cascade" or config.classifier.hidden_size == 1024
    assert (stage1.head_lr, stage3.head_lr) == (0.1, 0.01)
    assert stage3.epochs == (0 if family == "efficientnet" else paper.epochs)
    for stage in (stage1, stage3) if stage3.epochs else (stage1,):
        assert (stage.optimizer, stage.batch_size, stage.epochs) == ("sgd", 256, paper.epochs)
        assert (stage.lr, stage.weight_decay) == (paper.lr, paper.weight_decay)
        assert stage.regularization == paper.regularization
        assert stage.global_lr == (0.0 if paper.head == "cascade" else None)  # None: as the local encoder
        assert stage.warmup == 0.0 and stage.precision == "float32"


@pytest.mark.parametrize("name", NAMES)
def test_stage_two_is_that_of_appendix_a(name: str) -> None:
    """A.2: PPO on mini-batches of 256 images for 15 epochs of ImageNet; the best of them by its accuracy at t = T."""
    config = load_config(name)
    steps, stage2 = config.classifier.num_glimpses - 1, config.stage2

    assert stage2.agent == "ppo_gru" and stage2.episode.reward == "contrastive"
    assert stage2.policy_options["extractor"] == APPENDIX_A[_family(config.classifier.encoder)].pi
    assert stage2.options == {
        "learning_rate": 3e-4,
        "gamma": 0.7,
        "clip_range": 0.2,
        "vf_coef": 0.5,
        "ent_coef": 0.01,
        "gae_lambda": 1.0,  # Eq. (12): Monte-Carlo returns less the value
        "n_epochs": 1,
        "n_steps": steps,
        "batch_size": 256 * steps,
        "max_grad_norm": 1e9,  # no clipping
    }
    assert (stage2.num_envs, stage2.env_steps) == (256, 15 * 1_281_167 * steps)
    assert stage2.evaluations == 15 and stage2.final_lr_fraction == 1.0
    assert stage2.action_std_schedule == (0.1, 0.1)


def test_optimizers_are_those_of_appendix_a(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    """SGD with a Nesterov momentum of 0.9 (A.3); Adam with 0.9 and 0.999 (A.2)."""
    weight = nn.Parameter(torch.zeros(1))
    sgd = OPTIMIZERS["sgd"]([{"params": [weight], "lr": 0.1}], 1e-4)
    spec = load_config("resnet50_96").stage2
    spec = spec.replace(policy_options={**spec.policy_options, "extractor": "conv1x1_16"})
    agent = new_agent(policy_env(classifier, scenes, spec), spec, seed=0)
    assert isinstance(agent, PPOGRU)

    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"], sgd.defaults["weight_decay"]) == (0.9, True, 1e-4)
    adam = agent.policy.optimizer
    assert isinstance(adam, torch.optim.Adam)
    assert adam.defaults["betas"] == (0.9, 0.999) and adam.defaults["eps"] == 1e-8
    assert adam.param_groups[0]["lr"] == 3e-4 and agent.policy.action_net[-1].saturation_penalty == 0.0
    assert [agent.lr_schedule(progress) for progress in (1.0, 0.5, 0.0)] == pytest.approx([3e-4] * 3)


@pytest.mark.parametrize("name", NAMES)
def test_networks_are_those_of_the_published_models(name: str) -> None:
    config = load_config(name)
    published = PUBLISHED[config.classifier.encoder]

    assert config.classifier.head == published.head
    assert config.classifier.resize_mode == published.resize_mode
    assert (config.data.height, config.data.crop_pct) == (published.image_size, published.crop_pct)
    assert config.data.interpolation == published.interpolation
    assert config.stage2.policy_options["extractor"] == published.proposal_network


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(root / split / label / "0.jpg")
    return root


@pytest.mark.slow
@pytest.mark.usefixtures("blank_report")
@pytest.mark.parametrize(
    "name", ["resnet50_96", "densenet121_96", "regnety_600m_96", "mobilenetv3_large_100_96", "efficientnet_b2_128"]
)
def test_config_runs_through_every_stage(name: str, tree: Path, tmp_path: Path) -> None:
    """Images of 160 pixels or a patch's, pi's two layers narrowed: the networks themselves are at full size."""
    config = load_config(name)
    steps = config.classifier.num_glimpses - 1
    side = max(160, config.classifier.largest_side)
    changes = [
        *(f"data.root={tree}", f"data.height={side}", f"data.width={side}", "oracle_grid=2", "fixed_place_grid=2"),
        *("initialization.weights=null", "initialization.full_resolution.epochs=1"),
        *("initialization.low_resolution.epochs=1", "stage1.epochs=1", f"stage3.epochs={min(1, config.stage3.epochs)}"),
        *("stage2.num_envs=2", f"stage2.env_steps={2 * steps}", f"stage2.options.batch_size={2 * steps}"),
        *(f"{stage}.num_workers=0" for stage in ("initialization.low_resolution", "stage1", "stage3")),
        *(f"{stage}.micro_batch_size=null" for stage in ("initialization.low_resolution", "stage1", "stage3")),
    ]
    if config.stage2.policy_options["extractor"] == "fc_1024":
        changes.append("stage2.policy_options.extractor=conv1x1_32")

    assert main(["train", name, "--out", str(tmp_path / "run"), "--quiet", "--set", *changes]) == 0

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {len(values) for values in metrics["accuracy"].values()} == {steps + 1}
    stages = {json.loads(line)["stage"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()}
    assert {"stage1", "stage2"} <= stages and ("stage3" in stages) == (config.stage3.epochs > 0)
