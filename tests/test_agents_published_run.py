"""Published checkpoints as runs: they compute what the authors' code computes, and work wherever a run does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from published_weights import NAMES, checkpoint, make_input, recorded

from agents import load_run
from agents.runs.import_published import import_checkpoint
from classifiers.checkpoints import CheckpointError, load_classifier
from classifiers.networks.geometry import top_left_px
from classifiers.published import read_published
from scripts.cli import main

SMALL = "mobilenetv3_large_100"


@pytest.mark.parametrize(
    "name", [name if name == SMALL else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_imported_run_looks_where_the_authors_code_looked_and_sees_the_same(
    name: str, imported: Path, tmp_path: Path
) -> None:
    record, folder = recorded(name), imported
    if name != SMALL:
        folder = tmp_path / "run"
        torch.save(checkpoint(record), tmp_path / "file.pth.tar")
        import_checkpoint(tmp_path / "file.pth.tar", folder)
        (tmp_path / "file.pth.tar").unlink()

    run, images = load_run(folder), make_input(record)
    for step, (glimpse, location) in zip(record["expected"], run.classifier.episode(images, run.policy), strict=True):
        if location is not None:
            assert torch.allclose(location, torch.tensor(step["action"]), atol=1e-4)
            corners = top_left_px(location, tuple(images.shape[2:]), record["patch_size"])
            assert corners.tolist() == step["patch_top_left"]
        assert torch.allclose(glimpse.logits[:, :16], torch.tensor(step["logits_first16"]), atol=1e-3)
        assert glimpse.logits.topk(5).indices.tolist() == step["top5_index"]
        assert list(glimpse.features.shape[1:]) == step["state_shape"]


@pytest.fixture(scope="module")
def imported(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("imported") / "run"
    assert main(["import-checkpoint", str(published), "--out", str(run), "--quiet"]) == 0
    return run


def test_results_and_leftovers_are_kept(imported: Path) -> None:
    results = json.loads((imported / "published.json").read_text())

    assert results["dynamic_threshold"] == np.linspace(0.0, 1.0, 6).reshape(2, 3).tolist()
    assert results["anytime_classification"] == pytest.approx([61.5, 67.0, 68.8])
    assert results["left_out"] == [f"fc/fc_{t}.{part}" for t in (4, 5) for part in ("weight", "bias")]


def test_prefix_of_data_parallel_may_be_missing(published: Path, imported: Path, tmp_path: Path) -> None:
    content = torch.load(published, weights_only=False)
    for entry in ("model_prime_state_dict", "model_state_dict"):
        content[entry] = {key.removeprefix("module."): value for key, value in content[entry].items()}
    torch.save(content, tmp_path / "plain.pth.tar", _use_new_zipfile_serialization=False)  # as PyTorch 1.3 did

    weights = read_published(tmp_path / "plain.pth.tar").classifier.state_dict()

    expected = load_classifier(imported / "stage3" / "classifier.safetensors")[0].state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in weights.items())


def _without(*keys: str) -> Callable[[dict[str, Any]], object]:
    return lambda content: [content.pop(key) for key in keys]


def _with_other_shape(content: dict[str, Any]) -> None:
    content["fc"]["fc_2.weight"] = content["fc"]["fc_2.weight"][:, 1:]


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "entry": (_without("policy", "fc"), "it holds no fc, policy"),
    "model": (lambda content: content.update(model_name="vgg16"), "model_name 'vgg16'; known are"),
    "weight": (lambda content: content["model_state_dict"].pop("module.bn1.bias"), "has no trunk.bn1.bias"),
    "shape": (_with_other_shape, "classifiers.0.weight"),
    "not finite": (
        lambda content: content["fc"]["fc_2.bias"].fill_(float("nan")),
        r"fc holds NaN or infinity in fc_2\.bias",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused_with_a_reason(damage: str, published: Path, tmp_path: Path) -> None:
    content = torch.load(published, weights_only=False)
    change, reason = DAMAGES[damage]
    change(content)
    torch.save(content, tmp_path / "damaged.pth.tar")

    with pytest.raises(CheckpointError, match=reason):
        import_checkpoint(tmp_path / "damaged.pth.tar", tmp_path / "run")

    assert not (tmp_path / "run").exists()


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def test_files_that_are_cut_off_carry_code_or_are_none(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.pth.tar").write_bytes(published.read_bytes()[:1_000_000])
    (tmp_path / "text.pth.tar").write_text("not a checkpoint")
    torch.save({"model_name": _Code()}, tmp_path / "code.pth.tar")
    torch.save([1, 2], tmp_path / "list.pth.tar")

    for name in ("cut", "text", "code", "list", "absent"):
        assert main(["import-checkpoint", f"{name}.pth.tar", "--out", "run"]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"gfnet: {name}.pth.tar") and error.count("\n") == 1

    assert not (tmp_path / "executed").exists() and not (tmp_path / "run").exists()


def test_imported_run_is_a_classifier_for_the_environment(imported: Path, imagenet_tree: Path) -> None:
    env = gymnasium.make_vec("GFNet-ImageNet-v0", num_envs=4, root=imagenet_tree, classifier=imported, image_size=112)

    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(4):
        observation, reward, *_ = env.step(env.action_space.sample())

    assert observation["features"].shape == (4, 960, 3, 3)
    assert np.isfinite(reward).all()
    env.close()


SHORT = [
    "data.height=112",
    "data.width=112",
    "data.num_train=8",
    "data.num_test=4",
    "oracle_grid=2",
    "fixed_place_grid=2",
]


def test_imported_run_is_evaluated(imported: Path, imagenet_tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(imported), "--set", f"data.root={imagenet_tree}", *SHORT]) == 0

    assert "accuracy on 4 held-out images" in capsys.readouterr().out
    metrics = json.loads((imported / "metrics.json").read_text())
    assert {len(values) for values in metrics["accuracy"].values()} == {3}
    assert metrics["multiply_adds"]["glance"] == 41_780_160 + 1_280_000


@pytest.mark.usefixtures("blank_report")
@pytest.mark.parametrize("first_stage", [pytest.param(stage, marks=pytest.mark.slow) for stage in (1, 2, 3)])
def test_training_goes_on_from_an_imported_run(
    first_stage: int, imported: Path, imagenet_tree: Path, tmp_path: Path
) -> None:
    changes = [
        *(*SHORT, f"data.root={imagenet_tree}", f"start={imported}", f"start_stage={first_stage}"),
        *(["stage1.epochs=1", "stage1.batch_size=4", "stage1.num_workers=0"] if first_stage == 1 else []),
        *("stage2.num_envs=4", "stage2.env_steps=8", "stage2.options.batch_size=8"),
        *("stage3.epochs=1", "stage3.batch_size=4", "stage3.num_workers=0"),
    ]
    arguments = ["train", "mobilenetv3_large_100_96", "--out", str(tmp_path / "run"), "--quiet", "--set"]

    assert main([*arguments, *changes]) == 0

    before, after = load_run(imported), load_run(tmp_path / "run")
    weights = [run.policy.network.state_dict()["action_net.0.weight"] for run in (before, after)]
    assert torch.equal(*weights) == (first_stage == 3)
    glances = [run.classifier.head.state_dict()["classifiers.0.weight"] for run in (before, after)]
    assert not torch.equal(*glances)
    assert (tmp_path / "run" / "stage1" / "classifier.safetensors").is_file() == (first_stage == 1)
