"""Every stage on a GPU, in float32 and in mixed precision: it runs there, and gives what the processor gives.

Differences of a thousandth are the GPU's own: its convolutions round inputs to ten bits (TF32).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES, random_classifier

from agents.algorithms.make_agent import make_agent
from agents.algorithms.stage2 import train_agent
from agents.evaluation.record import load_record
from agents.evaluation.rollout import evaluate
from agents.policies.baselines import RandomPolicy
from agents.recognition.recognizer import Recognizer
from agents.runs.config_files import load_config
from agents.runs.folder import RunFolder
from agents.runs.run import load_networks, load_recognizer
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import frozen
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.spec import ClassifierSpec
from classifiers.training.fit_spec import FitSpec
from classifiers.training.stages import train_full_resolution, train_sequences
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task
from scripts.cli import main

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SHAPE = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=3, hidden_size=16)
STAGES = ("initialization.full_resolution", "initialization.low_resolution", "stage1", "stage3")
CLOSE: dict[str, Any] = {"atol": 5e-3, "rtol": 0.0}


def _fit_spec(precision: str, epochs: int) -> FitSpec:
    return FitSpec(epochs=epochs, batch_size=24, lr=3e-3, optimizer="adamw", precision=precision, micro_batch_size=12)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_initialization_learns(precision: str, scenes: ArrayImages) -> None:
    torch.manual_seed(0)
    network = FullResolutionNetwork(build_encoder("small_resnet", 10)).to(DEVICE)
    losses: list[float] = []

    train_full_resolution(
        network,
        scenes,
        _fit_spec(precision, epochs=8),
        seed=0,
        on_epoch=lambda epoch, figures: losses.append(figures["loss"]),
    )

    assert losses[-1] < 0.8 * losses[0]
    assert {(parameter.device.type, parameter.dtype) for parameter in network.parameters()} == {(DEVICE, torch.float32)}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stage", [1, 3])
def test_stages_one_and_three_learn(stage: int, precision: str, scenes: ArrayImages) -> None:
    classifier = random_classifier(SHAPE).to(DEVICE)
    losses: list[float] = []

    def center(glimpse: Any, state: None) -> tuple[torch.Tensor, None]:
        return torch.full((len(glimpse.logits), 2), 0.5, device=glimpse.logits.device), state

    train_sequences(
        classifier,
        None if stage == 1 else center,
        scenes,
        _fit_spec(precision, epochs=8),
        seed=0,
        on_epoch=lambda epoch, figures: losses.append(figures["loss"]),
    )

    assert losses[-1] < 0.8 * losses[0]
    assert {parameter.device.type for parameter in classifier.parameters()} == {DEVICE}


@pytest.mark.parametrize("name", ["ppo", "ppo_gru", "sac"])
@pytest.mark.parametrize("reward", ["increment", "contrastive"])
def test_stage_two_changes_the_policy(name: str, reward: str, scenes: ArrayImages) -> None:
    classifier = frozen(random_classifier(SHAPE).to(DEVICE))
    env = GlanceFocusVectorEnv(
        Task(scenes, classifier), EpisodeSpec(reward=reward), num_envs=8, autoreset_mode="SAME_STEP"
    )
    options: dict[str, Any] = {"learning_starts": 16} if name == "sac" else {"n_steps": 2, "batch_size": 16}
    agent = make_agent(name, env, seed=0, device=DEVICE, **options)
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}

    train_agent(agent, 64, seed=0)

    after = agent.policy.state_dict()
    assert {value.device.type for value in after.values()} == {DEVICE}
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    assert not all(torch.equal(value, before[key]) for key, value in after.items())


def test_environment_observes_what_it_does_on_the_processor() -> None:
    options: dict[str, Any] = {"num_envs": 4, "num_scenes": 8, "scenes": SMALL_SCENES}
    places = np.random.default_rng(0).uniform(-1, 1, (3, 4, 2)).astype(np.float32)
    seen: dict[str, list[Any]] = {}

    for device in ("cpu", DEVICE):
        env = gymnasium.make_vec("GFNet-SyntheticSigns-v0", device=device, **options)
        observation, _ = env.reset(seed=0)
        seen[device] = [observation]
        for action in places:
            observation, reward, _, _, info = env.step(action)
            seen[device] += [observation, reward, info["confidence"]]
        env.close()

    for ours, theirs in zip(seen["cpu"], seen[DEVICE], strict=True):
        for left, right in zip(*((x.values() if isinstance(x, dict) else [x]) for x in (ours, theirs)), strict=True):
            assert np.allclose(left, right, atol=2e-2, rtol=1e-2)


def test_evaluation_gives_what_the_processor_gives(scenes: ArrayImages) -> None:
    classifier = random_classifier(SHAPE)
    here = evaluate(frozen(classifier), scenes, RandomPolicy(0))

    there = evaluate(frozen(classifier.to(DEVICE)), scenes, RandomPolicy(0))

    assert np.array_equal(here.location, there.location)
    assert np.allclose(here.label_probability, there.label_probability, **CLOSE)
    assert np.allclose(here.confidence, there.confidence, **CLOSE)


def test_compiled_twin_agrees() -> None:
    classifier = random_classifier(SHAPE).to(DEVICE)
    images = torch.randint(0, 256, (40, 3, 96, 128), dtype=torch.uint8, device=DEVICE)

    for count in (1, 40):
        expected = frozen(classifier).glance(images[:count])
        found = frozen(classifier, compile=True).glance(images[:count])
        assert torch.allclose(found.logits, expected.logits, atol=2e-2)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of `gfnet train` on the GPU."""
    folder = tmp_path_factory.mktemp("gpu") / "run"
    changes = [
        *(f"device={DEVICE}", "data.num_train=40", "data.num_val=10", "data.num_test=12", "oracle_grid=3"),
        *(f"data.scenes.height={SMALL_SCENES.height}", f"data.scenes.width={SMALL_SCENES.width}"),
        *("initialization.low_resolution_sides=[]", "stage2.num_envs=8", "stage2.env_steps=96"),
        *(f"{stage}.epochs=1" for stage in STAGES),
        *(f"{stage}.precision={request.param}" for stage in STAGES),
    ]
    assert main(["train", "synthetic_signs", "--out", str(folder), "--quiet", "--set", *changes]) == 0
    return folder


def test_a_whole_run_has_every_stage_and_its_figures(run: Path) -> None:
    stages = {json.loads(line)["stage"] for line in (run / "metrics.jsonl").read_text().splitlines()}
    assert {"full_resolution", "low_resolution_48", "stage1", "stage2", "stage3"} <= stages

    metrics = json.loads((run / "metrics.json").read_text())
    for name, values in metrics["accuracy"].items():
        record = load_record(RunFolder(run).record(name))
        assert np.isfinite(record.confidence).all()
        assert values == pytest.approx([float((step == record.label).mean()) for step in record.prediction.T])


def test_the_run_is_recognized_with_on_either_device(run: Path, scenes: ArrayImages) -> None:
    config = str(RunFolder(run).config)
    found = {}
    for device in ("cpu", DEVICE):
        loaded = load_networks(load_config(config, [f"device={device}"]), run)
        assert loaded.classifier.normalize.scale.device.type == device
        found[device] = Recognizer(loaded.classifier, loaded.policy, class_names=loaded.class_names).predict(
            scenes.images
        )

    assert np.allclose(found["cpu"].confidence, found[DEVICE].confidence, atol=5e-2)
    assert np.abs(found["cpu"].locations - found[DEVICE].locations).max() < 0.02
    there = load_recognizer(run)
    there.use(num_glimpses=2)
    loaded_there = there.predict(scenes.images)
    assert loaded_there.step.tolist() == [2] * len(scenes)
