from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_classifier
from PIL import Image

import agents
from agents.evaluation.budgets import (
    adaptive_figures,
    apply_exit_rule,
    budget_curve,
    cheapest_rule,
    fit_exit_rule,
    fixed_lengths,
    history_table,
)
from agents.evaluation.metrics import accuracy_by_step
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.rollout import evaluate
from agents.evaluation.stopping import ExitRule
from agents.policies.deterministic import DeterministicPolicy
from agents.recognition.images import as_batch
from agents.recognition.recognizer import Recognizer
from agents.runs.config import Stage2Spec
from agents.runs.images import open_images
from agents.runs.loaded import load_recognizer, load_run
from agents.runs.new_agent import new_agent, policy_env
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import frozen
from classifiers.networks.spec import ClassifierSpec
from scripts.cli import main
from scripts.plots import accuracy_by_budget
from scripts.report import write_report

HEADS = ("gru", "cascade", "average")


def _recognizer(
    scenes: ArrayImages, head: str = "gru", agent: str = "ppo", batch_size: int = 5
) -> tuple[Recognizer, EvaluationRecord]:
    spec = ClassifierSpec(encoder="small_resnet", head=head, patch_size=48, num_glimpses=4, hidden_size=16)
    classifier = frozen(random_classifier(spec))
    policy_spec = Stage2Spec(env_steps=1, agent=agent, num_envs=2)
    model = new_agent(policy_env(classifier, scenes, policy_spec), policy_spec, 0)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.policy.action_net[0].weight, std=2.0)  # looks that differ from image to image
    record = evaluate(classifier, scenes, DeterministicPolicy(model))
    policy = DeterministicPolicy(model.policy.eval())
    return Recognizer(
        classifier, policy, calibration=record, batch_size=batch_size, class_names=scenes.class_names
    ), record


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("agent", ["ppo", "ppo_gru"])
def test_leaving_early_is_the_whole_rollout_cut_off(head: str, agent: str, criterion: str, scenes: ArrayImages) -> None:
    recognizer, record = _recognizer(scenes, head, agent)
    budget = float(record.multiply_adds[[0, -1]].mean())

    recognizer.use(budget=budget, criterion=criterion, method="geometric")
    found = recognizer.predict(scenes.images)

    steps = history_table(record, criterion).exits(recognizer.rule.array(4)) + 1
    rows = np.arange(len(steps))
    assert len(set(steps.tolist())) >= 3
    assert (found.step == steps).all()
    assert (found.label == record.prediction[rows, steps - 1]).all()
    assert np.allclose(found.confidence, record.confidence[rows, steps - 1], atol=1e-5)
    assert (found.multiply_adds == record.multiply_adds[steps - 1]).all()
    assert found.multiply_adds.mean() <= budget
    looked = np.arange(3) < steps[:, None] - 1
    assert np.allclose(found.locations[looked], record.location[looked], atol=1e-5)
    assert np.isnan(found.locations[~looked]).all()


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_results_do_not_depend_on_the_batch(batch_size: int, scenes: ArrayImages) -> None:
    recognizer, record = _recognizer(scenes, batch_size=batch_size)
    recognizer.use(budget=float(record.multiply_adds[[0, -1]].mean()), method="geometric")
    at_once = recognizer.predict(scenes.images)

    one_by_one = [recognizer.predict(image[None]) for image in scenes.images]

    assert at_once.step.tolist() == [int(found.step[0]) for found in one_by_one]
    assert at_once.label.tolist() == [int(found.label[0]) for found in one_by_one]


def test_forwards_are_full_whatever_the_exits(scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer, record = _recognizer(scenes, batch_size=4)
    recognizer.use(budget=float(record.multiply_adds[[0, -1]].mean()), method="geometric")
    sizes: list[int] = []
    focus = recognizer.classifier.focus

    def counting(patches: torch.Tensor, hidden: torch.Tensor) -> object:
        sizes.append(len(patches))
        return focus(patches, hidden)

    monkeypatch.setattr(recognizer.classifier, "focus", counting)
    found = recognizer.predict(scenes.images)

    assert sum(sizes) == int((found.step - 1).sum())
    last_new = sizes.index(next((size for size in sizes if size < 4), 4)) if min(sizes) < 4 else len(sizes)
    assert all(size == 4 for size in sizes[:last_new])
    assert sizes == sorted(sizes, reverse=True)  # only the tail, when nobody new comes, runs on fewer


def test_the_budget_can_change_between_calls(scenes: ArrayImages) -> None:
    recognizer, record = _recognizer(scenes)
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
    recognizer, _ = _recognizer(scenes)
    tensors = scenes.images[:3]
    arrays = tensors.permute(0, 2, 3, 1).numpy()
    pictures = [Image.fromarray(array) for array in arrays]

    results = [recognizer.predict(images) for images in (tensors, arrays, pictures, list(tensors), list(arrays))]
    floats = recognizer.classifier.normalize(tensors)
    results.append(recognizer.predict(floats))

    for found in results[1:]:
        assert found.label.tolist() == results[0].label.tolist()
        assert np.allclose(found.confidence, results[0].confidence, atol=2e-3)


BAD_IMAGES = {
    "empty": (torch.zeros(0, 3, 96, 96, dtype=torch.uint8), "empty batch"),
    "none": ([], "empty batch"),
    "int64": (torch.zeros(1, 3, 96, 96, dtype=torch.int64), "images are int64; pass uint8"),
    "small": (torch.zeros(1, 3, 96, 40, dtype=torch.uint8), "96x40, smaller than the 48x48 patches"),
    "grey": (torch.zeros(1, 1, 96, 96, dtype=torch.uint8), r"shape \(1, 1, 96, 96\)"),
    "one": (torch.zeros(3, 96, 96, dtype=torch.uint8), r"shape \(3, 96, 96\)"),
    "types": ([torch.zeros(3, 96, 96), torch.zeros(3, 96, 96, dtype=torch.uint8)], "several types"),
    "words": (["photo.jpg"], "images hold a str"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images_are_refused(kind: str) -> None:
    images, reason = BAD_IMAGES[kind]
    with pytest.raises(ValueError, match=reason):
        as_batch(images, 48)  # type: ignore[arg-type]  # on purpose


def test_bad_settings_are_refused(scenes: ArrayImages) -> None:
    recognizer, record = _recognizer(scenes)
    costs = record.multiply_adds
    for budget in (costs[0] - 1, costs[-1] + 1):
        with pytest.raises(
            ValueError, match=r"budget=.* is out of range; pass .* \(a glance alone\) to .* \(all steps\)"
        ):
            recognizer.use(budget=float(budget))
    for settings, reason in (
        ({"budget": 1e7, "num_glimpses": 2}, "budget, thresholds and num_glimpses"),
        ({"num_glimpses": 5}, "pass 1 to 4"),
        ({"thresholds": [0.5]}, "1 thresholds for 4 steps; pass 3"),
        ({"criterion": "random"}, "pass 'confidence' or 'entropy'"),
        ({"budget": float(costs.mean()), "method": "luck"}, "pass one of coordinate_ascent, geometric, genetic"),
    ):
        with pytest.raises(ValueError, match=reason):
            recognizer.use(**settings)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="pass 1 or more"):
        Recognizer(recognizer.classifier, recognizer.policy, calibration=record, batch_size=0)
    with pytest.raises(ValueError, match="of 4 steps"):
        Recognizer(recognizer.classifier.with_spec(num_glimpses=3), recognizer.policy, calibration=record)


def _synthetic_record(count: int, seed: int) -> EvaluationRecord:
    """Ten classes; confidence tells how often the prediction is right, entropy a little less so."""
    rng = np.random.default_rng(seed)
    confidence = np.sort(rng.uniform(0.1, 1.0, (count, 4)), axis=1).astype(np.float32)
    is_right = rng.random((count, 4)) < confidence
    return EvaluationRecord(
        label=np.zeros(count, np.int64),
        box=np.zeros((count, 4), np.int64),
        prediction=np.where(is_right, 0, 1),
        confidence=confidence,
        entropy=(1 - confidence + rng.normal(0, 0.2, confidence.shape)).astype(np.float32),
        label_probability=confidence,
        location=np.zeros((count, 3, 2), np.float32),
        multiply_adds=np.array([10, 30, 50, 70]),
        patch_sizes=(8,),
        image_size=(32, 32),
    )


def test_budget_curves_rank_the_criteria_as_table_7_does() -> None:
    calibration, record = _synthetic_record(4000, 0), _synthetic_record(4000, 1)

    curves = {
        criterion: budget_curve(calibration, record, criterion=criterion, method="geometric", num_budgets=9)
        for criterion in ("confidence", "entropy", "random")
    }
    best = budget_curve(calibration, record, method="coordinate_ascent", num_budgets=9)

    inner = slice(2, 7)
    confidence, entropy, chance = (np.array(curves[name].accuracies)[inner] for name in curves)
    assert (confidence > entropy).all() and (entropy > chance).all()
    assert (np.array(best.accuracies)[inner] > confidence - 0.02).all()
    for curve in (*curves.values(), best):
        assert np.allclose(curve.costs, np.array(curve.exits) @ record.multiply_adds)
        assert np.abs(np.array(curve.costs) - curve.budgets).max() < 3  # on other images, but alike
        assert (np.array(curve.accuracies) <= curve.bounds).all()
        assert curve.size_shares[0] == [0.0] and curve.size_shares[-1] == [1.0]


def test_cheapest_rule_reaches_the_accuracy_or_says_that_none_does() -> None:
    record = _synthetic_record(4000, 0)
    whole = apply_exit_rule(record, ExitRule.of("confidence", [np.inf] * 3))

    rule = cheapest_rule(record, whole.accuracy - 0.05)

    assert rule is not None
    figures = apply_exit_rule(record, rule)
    assert figures.accuracy >= whole.accuracy - 0.05 and figures.cost < whole.cost
    assert cheapest_rule(record, 1.1) is None
    with pytest.raises(ValueError, match="2 thresholds for 4 steps; pass 3"):
        apply_exit_rule(record, ExitRule.of("confidence", [0.5, 0.5]))
    with pytest.raises(ValueError, match="method='luck' is unknown"):
        fit_exit_rule(record, 40.0, method="luck")


@pytest.mark.parametrize("former", ["best", "grid_search"])
def test_former_names_of_the_default_method_are_accepted_with_a_warning(former: str) -> None:
    record = _synthetic_record(400, 0)

    with pytest.warns(DeprecationWarning, match=f"method='{former}' is now called 'coordinate_ascent'; pass that"):
        rule = fit_exit_rule(record, 20.0, method=former)

    assert rule == fit_exit_rule(record, 20.0)


def test_fixed_lengths_stand_beside_early_exits_within_their_cost() -> None:
    calibration, record = _synthetic_record(4000, 0), _synthetic_record(4000, 1)

    found = fixed_lengths(calibration, record)

    assert [each["steps"] for each in found] == [1, 2, 3, 4]
    assert [each["multiply_adds"] for each in found] == record.multiply_adds.tolist()
    assert [each["accuracy"] for each in found] == accuracy_by_step(record)
    assert found[0]["early_exits"] == {"accuracy": found[0]["accuracy"], "multiply_adds": record.multiply_adds[0]}
    for each in found[1:3]:
        rule = fit_exit_rule(calibration, each["multiply_adds"])
        assert each["early_exits"]["accuracy"] == apply_exit_rule(record, rule).accuracy > each["accuracy"]
        assert each["early_exits"]["multiply_adds"] == pytest.approx(each["multiply_adds"], rel=0.05)


@pytest.fixture(scope="module")
def run(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of small scenes, the tests' own."""
    return Path(shutil.copytree(demo_run, tmp_path_factory.mktemp("runs") / "small"))


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

    assert len(record.label) == 20
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
    rows = [line.split() for line in lines if "geometric" in line or "coordinate_ascent" in line]
    assert [row[3] for row in rows] == ["confidence", "entropy", "random", "confidence"]
    after = json.loads((tmp_path / "copy" / "metrics.json").read_text())
    assert after["accuracy"] == before["accuracy"] and after["adaptive"] == before["adaptive"]
    assert main(["plot", str(tmp_path / "copy"), "--out", str(tmp_path / "plots")]) == 0
    assert main(["evaluate", str(run), "--split", "val", "--budget", "15M"]) == 1
    assert "budgets are judged on test" in capsys.readouterr().err


def test_lots_of_files_are_recognised_as_one(run: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(pictures.iterdir())
    recognizer = load_recognizer(run, budget=15e6, batch_size=1)
    whole = recognizer.predict_files(files)

    monkeypatch.setattr(agents.recognition.recognizer, "_BYTES_AT_ONCE", 1)  # a file at a time
    for together, alone in zip(whole, recognizer.predict_files(files), strict=True):
        assert np.allclose(together, alone, atol=1e-5, equal_nan=True)
    with pytest.raises(ValueError, match="paths is empty"):
        recognizer.predict_files([])


def test_the_rule_that_matches_the_full_resolution_network_is_written_whole(scenes: ArrayImages) -> None:
    _, record = _recognizer(scenes)
    sure = dataclasses.replace(record, prediction=np.repeat(record.label[:, None], 4, axis=1))

    match = adaptive_figures(sure, record, (0.5, 0.5), 10**9)["match"]

    assert match["exits"] == [1.0, 0.0, 0.0, 0.0]
    assert match["thresholds"][0] == [0.0]  # everybody out
    assert match["times_fewer"] == pytest.approx(1e9 / record.multiply_adds[0])
    assert adaptive_figures(record, record, (1.1, 1.1), 10**9)["match"] is None


def test_predict_wants_a_run_with_policy_and_evaluation(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "config.yaml").write_text((run / "config.yaml").read_text())
    assert main(["predict", str(copy), str(pictures)]) == 1
    assert "policy.safetensors" in capsys.readouterr().err
    (copy / "stage2").mkdir()
    (copy / "stage2" / "policy.safetensors").write_bytes((run / "stage2" / "policy.safetensors").read_bytes())
    assert main(["predict", str(copy), str(pictures)]) == 0
    capsys.readouterr()
    assert main(["predict", str(copy), str(pictures), "--budget", "15M"]) == 1
    assert "run `gfnet evaluate` on the run first" in capsys.readouterr().err


def test_plots_of_several_runs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", str(run), "--out", str(tmp_path / "plots")]) == 0

    written = {path.name for path in (tmp_path / "plots").iterdir()}
    assert written == {"budgeted.png", "expected_length.png", "anytime.png", "exits_small.png"}
    report = (run / "report.html").read_text()
    assert "Stopping early" in report
    measured = {"cumulative_ms": [1.0, 2.0, 3.0, 4.0], "full_resolution_ms": 5.0}
    (run / "latency.json").write_text(json.dumps(measured))
    assert main(["plot", str(run), "--out", str(tmp_path / "with_latency")]) == 0
    assert (tmp_path / "with_latency" / "latency.png").is_file()
    loaded = load_run(run)
    write_report(loaded, open_images(loaded.config, "test"), run)
    assert (run / "report.html").read_text().count("<img") == report.count("<img") + 1
    (run / "latency.json").unlink()
    capsys.readouterr()
    assert main(["plot", str(run), str(run), "--out", str(tmp_path)]) == 1
    assert "folders of the same name" in capsys.readouterr().err
