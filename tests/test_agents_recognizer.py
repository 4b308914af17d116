from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES, random_classifier
from PIL import Image

import agents
from agents.evaluation.budgets import history_table
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.rollout import evaluate
from agents.policies.deterministic import DeterministicPolicy
from agents.recognition.images import as_batch
from agents.recognition.recognizer import Recognizer
from agents.runs.config import Stage2Spec
from agents.runs.run import load_recognizer, new_agent, policy_env
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import frozen
from classifiers.networks.size_histories import size_histories
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec
from scripts.cli import main
from scripts.plots import accuracy_by_budget

SIZES = (24, 32, 48)


def make_recognizer(
    scenes: ArrayImages,
    head: str = "gru",
    agent: str = "ppo",
    batch_size: int = 5,
    sizes: tuple[int, ...] = (48,),
    rules: dict[str, Any] | None = None,
    **shape: Any,
) -> tuple[Recognizer, EvaluationRecord]:
    """Random networks, a policy that looks elsewhere in each image, and their record of the scenes."""
    spec = ClassifierSpec(
        encoder="small_resnet",
        head=head,
        patch_sizes=sizes,
        num_glimpses=4,
        hidden_size=16,
        **{"glance_size": 32, **shape},
    )
    classifier = frozen(random_classifier(spec))
    policy_spec = Stage2Spec(env_steps=1, agent=agent, num_envs=2, episode=EpisodeSpec(**rules or {}))
    model: Any = new_agent(policy_env(classifier, scenes, policy_spec), policy_spec, 0)
    if agent in ("ppo", "ppo_gru"):
        torch.manual_seed(1)
        torch.nn.init.normal_(model.policy.action_net[0].weight, std=0.5)
    policy = DeterministicPolicy(model.policy.eval())
    record = evaluate(classifier, scenes, policy)
    image_size = (SMALL_SCENES.height, SMALL_SCENES.width)
    names = scenes.class_names
    recognizer = Recognizer(
        classifier, policy, class_names=names, image_size=image_size, calibration=record, batch_size=batch_size
    )
    return recognizer, record


def spread_thresholds(record: EvaluationRecord, criterion: str = "confidence") -> np.ndarray:
    """(T - 1, K) in random order at each step, spread over the scores, so that images end everywhere."""
    scores = history_table(record, criterion).scores_by_step()[:-1]
    fractions = {1: [0.55], 3: [0.3, 0.55, 0.85]}[len(record.patch_sizes)]
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(np.quantile(here, fractions)) for here in scores])


@pytest.mark.parametrize(
    ("sizes", "head", "agent", "criterion"),
    [
        ((48,), "gru", "ppo", "confidence"),
        ((48,), "cascade", "ppo_gru", "entropy"),
        (SIZES, "gru", "ppo_gru", "confidence"),
        (SIZES, "cascade", "ppo", "entropy"),
        (SIZES, "average", "ppo", "confidence"),
    ],
)
def test_recognition_is_the_recorded_histories_by_equation_9(
    sizes: tuple[int, ...], head: str, agent: str, criterion: str, scenes: ArrayImages
) -> None:
    recognizer, record = make_recognizer(scenes, head, agent, sizes=sizes)
    thresholds = spread_thresholds(record, criterion)

    recognizer.use(thresholds=thresholds, criterion=criterion)
    found = recognizer.predict(scenes.images)

    ends = history_table(record, criterion).exits(thresholds)
    histories = size_histories(len(sizes), 4)
    assert len(set(ends.tolist())) >= 3 * len(sizes) - 3 or len(sizes) == 1
    assert len(set(found.step.tolist())) >= 3
    for row, node in enumerate(ends.tolist()):
        history = histories[node]
        assert found.step[row] == len(history) + 1
        assert found.patch_sizes[row].tolist() == [*(sizes[size] for size in history), *[0] * (3 - len(history))]
        assert found.label[row] == record.prediction[row, node]
        assert found.confidence[row] == pytest.approx(record.confidence[row, node], abs=1e-5)
        assert found.multiply_adds[row] == record.multiply_adds[node]
        if history:
            assert np.allclose(found.locations[row, len(history) - 1], record.location[row, node - 1], atol=1e-5)
        assert np.isnan(found.locations[row, len(history) :]).all()


@pytest.mark.parametrize("sizes", [(48,), SIZES])
def test_results_do_not_depend_on_how_images_are_grouped(sizes: tuple[int, ...], scenes: ArrayImages) -> None:
    recognizer, record = make_recognizer(scenes, sizes=sizes)
    recognizer.use(thresholds=spread_thresholds(record))
    expected = recognizer.predict(scenes.images)

    for batch_size in (1, 64):
        recognizer.batch_size = batch_size
        found = recognizer.predict(scenes.images)
        assert (found.multiply_adds == expected.multiply_adds).all() and (found.label == expected.label).all()


def test_without_thresholds_patches_are_of_the_largest_size(scenes: ArrayImages) -> None:
    recognizer, record = make_recognizer(scenes, sizes=SIZES)

    found = recognizer.predict(scenes.images)
    recognizer.use(num_glimpses=2)
    two = recognizer.predict(scenes.images)

    assert (found.patch_sizes == 48).all() and (found.label == record.prediction[:, -1]).all()
    assert two.patch_sizes.tolist() == [[48, 0, 0]] * len(scenes)
    assert (two.multiply_adds == record.multiply_adds[3]).all()


def test_forwards_are_full_whatever_the_exits(scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer, record = make_recognizer(scenes, batch_size=4)
    recognizer.use(budget=float(record.multiply_adds[[0, -1]].mean()), method="geometric")
    sizes: list[int] = []
    encode = recognizer.classifier.encode_patches

    def counting(patches: torch.Tensor) -> object:
        sizes.append(len(patches))
        return encode(patches)

    monkeypatch.setattr(recognizer.classifier, "encode_patches", counting)
    found = recognizer.predict(scenes.images)

    assert sum(sizes) == int((found.step - 1).sum())
    last_new = sizes.index(next((size for size in sizes if size < 4), 4)) if min(sizes) < 4 else len(sizes)
    assert all(size == 4 for size in sizes[:last_new])
    assert sizes == sorted(sizes, reverse=True)  # only the tail, when nobody new comes, runs on fewer


def test_the_budget_can_change_between_calls(scenes: ArrayImages) -> None:
    recognizer, record = make_recognizer(scenes)
    costs = record.multiply_adds

    for budget in np.linspace(costs[0], costs[-1], 5):
        recognizer.use(budget=float(budget))
        assert recognizer.predict(scenes.images).multiply_adds.mean() <= budget
    recognizer.use(num_glimpses=2)
    assert (recognizer.predict(scenes.images).step == 2).all()
    recognizer.use(thresholds=[-np.inf, 0, 0])
    assert (recognizer.predict(scenes.images).step == 1).all()
    recognizer.use()
    assert (recognizer.predict(scenes.images).step == 4).all()


def test_all_forms_of_images_mean_the_same(scenes: ArrayImages) -> None:
    recognizer, _ = make_recognizer(scenes)
    tensors = scenes.images[:3]
    arrays = tensors.permute(0, 2, 3, 1).numpy()
    pictures = [Image.fromarray(array) for array in arrays]

    results = [recognizer.predict(images) for images in (tensors, arrays, pictures, list(tensors), list(arrays))]
    floats = recognizer.classifier.normalize(tensors)
    results.append(recognizer.predict(floats))

    for found in results[1:]:
        assert found.label.tolist() == results[0].label.tolist()
        assert np.allclose(found.confidence, results[0].confidence, atol=2e-3)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([], "empty batch"),
        (torch.zeros(1, 3, 96, 96, dtype=torch.int64), "images are int64; pass uint8"),
        (torch.zeros(1, 3, 96, 40, dtype=torch.uint8), "96x40, smaller than the 48x48 patches"),
        ([torch.zeros(3, 96, 96), torch.zeros(3, 96, 96, dtype=torch.uint8)], "several types"),
    ],
)
def test_bad_images_are_refused(images: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        as_batch(images, 48)


def test_bad_settings_are_refused(scenes: ArrayImages) -> None:
    recognizer, record = make_recognizer(scenes)
    costs = record.multiply_adds
    settings: list[tuple[dict[str, Any], str]] = [
        ({"budget": float(costs[0] - 1)}, "budget=.* is out of range"),
        ({"budget": 1e7, "num_glimpses": 2}, "budget, thresholds and num_glimpses"),
        ({"num_glimpses": 5}, "num_glimpses=5"),
        ({"thresholds": [0.5]}, "thresholds"),
        ({"budget": float(costs.mean()), "method": "luck"}, "method='luck'"),
    ]
    for arguments, reason in settings:
        with pytest.raises(ValueError, match=reason):
            recognizer.use(**arguments)
    with pytest.raises(ValueError, match="batch_size=0"):
        Recognizer(recognizer.classifier, recognizer.policy, calibration=record, batch_size=0)
    for change in ({"num_glimpses": 3}, {"patch_sizes": (32, 48)}):
        with pytest.raises(ValueError, match="calibration"):
            Recognizer(recognizer.classifier.with_spec(**change), recognizer.policy, calibration=record)


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of small scenes, the tests' own."""
    return Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("runs") / "small"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, scenes: ArrayImages) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(4):
        Image.fromarray(scenes.images[index].permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    return folder


def test_recognizer_of_a_run(run: Path, scenes: ArrayImages) -> None:
    recognizer = load_recognizer(run)
    recognizer.use(num_glimpses=2)
    record = agents.load_record(run / "evaluation" / "calibration.safetensors")

    found = recognizer.predict(scenes.images)

    assert (found.step == 2).all() and (found.multiply_adds == record.multiply_adds[1]).all()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["multiply_adds"]["cumulative"] == record.multiply_adds.tolist()
    assert metrics["adaptive"]["calibration_images"] == 20
    assert set(metrics["adaptive"]["curves"]) == {"confidence", "entropy", "random", "coordinate_ascent"}
    fixed = metrics["adaptive"]["fixed_lengths"]
    assert [each["accuracy"] for each in fixed] == metrics["accuracy"]["learned"]
    assert [each["multiply_adds"] for each in fixed] == metrics["multiply_adds"]["cumulative"]
    points = next(line for line in accuracy_by_budget(metrics).axes[0].lines if line.get_label() == "fixed length")
    assert points.get_ydata().tolist() == metrics["accuracy"]["learned"]


def test_evaluate_writes_its_figures_and_judges_a_budget(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "copy")
    before = json.loads((run / "metrics.json").read_text())
    (tmp_path / "copy" / "metrics.json").unlink()

    assert main(["evaluate", str(tmp_path / "copy"), "--budget", "15M"]) == 0

    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if "geometric" in line or "coordinate ascent" in line]
    criteria = ["confidence", "entropy", "random", "confidence"]
    assert all(criterion in row for criterion, row in zip(criteria, rows, strict=True))
    after = json.loads((tmp_path / "copy" / "metrics.json").read_text())
    assert after["accuracy"] == before["accuracy"] and after["adaptive"] == before["adaptive"]
    assert main(["evaluate", str(run), "--split", "val", "--budget", "15M"]) == 1
    assert "budgets are judged on test" in capsys.readouterr().err


def test_lots_of_files_are_recognized_as_one(run: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(pictures.iterdir())
    recognizer = load_recognizer(run, budget=15e6, batch_size=1)
    whole = recognizer.predict_files(files)

    monkeypatch.setattr(agents.recognition.recognizer, "_BYTES_AT_ONCE", 1)  # a file at a time
    for together, alone in zip(whole, recognizer.predict_files(files), strict=True):
        assert np.allclose(together, alone, atol=1e-5, equal_nan=True)
    for one in (files[0], str(files[0]), [str(files[0])]):
        assert recognizer.predict_files(one).label.tolist() == whole.label[:1].tolist()
    assert np.array_equal(recognizer.decode(str(files[0])), recognizer.decode(files[0]))
    with pytest.raises(ValueError, match="paths is empty"):
        recognizer.predict_files([])


def test_plots_of_several_runs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "latency.json").write_text(json.dumps({"cumulative_ms": [1.0, 2.0, 3.0, 4.0], "full_resolution_ms": 5.0}))
    assert main(["plot", str(run), "--out", str(tmp_path / "plots")]) == 0

    written = {path.name for path in (tmp_path / "plots").iterdir()}
    assert written == {"budgeted.png", "expected_length.png", "anytime.png", "exits_small.png", "latency.png"}
    capsys.readouterr()
    assert main(["plot", str(run), str(run), "--out", str(tmp_path)]) == 1
    assert "folders of the same name" in capsys.readouterr().err
