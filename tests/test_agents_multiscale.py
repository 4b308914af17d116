"""MS-GFNet: records over size histories, recognition by Eq. (9), export, whole runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_SCENES
from PIL import Image
from test_agents_recognizer import SIZES, make_recognizer

from agents.evaluation.record import load_record
from agents.evaluation.rollout import evaluate, final_accuracy
from agents.policies.baselines import OraclePolicy, RandomPolicy
from agents.runs.config_files import load_config
from agents.runs.cost import run_cost
from agents.runs.run import load_recognizer
from classifiers.data.source import ArrayImages
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.size_histories import size_histories
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task
from gfnet_env.actions import to_action
from scripts.cli import main
from scripts.report import cost_table

HISTORIES = size_histories(3, 4)


def test_records_hold_every_size_history_once(scenes: ArrayImages) -> None:
    """Each node is what an environment gives whose patches have these sizes, where the policy looks."""
    recognizer, record = make_recognizer(scenes, sizes=SIZES)
    networks, rows = recognizer.classifier, len(scenes)
    assert record.confidence.shape == (rows, 40) and record.location.shape == (rows, 39, 2)
    costs = [glimpse_costs(networks, size) for size in range(3)]

    for node, history in enumerate(HISTORIES):
        if len(history) < 3 or node % 4:  # 6 of the 27 longest
            continue
        env = GlanceFocusVectorEnv(Task(scenes, networks), EpisodeSpec(reward="increment"), num_envs=rows)
        env.reset(options={"index": np.arange(rows), "patch_sizes": [SIZES[size] for size in history]})
        state, info = None, {}
        for _ in history:
            location, state = recognizer.policy(env.dynamics.view(), state)
            *_, info = env.step(to_action(location))
        assert (info["prediction"] == record.prediction[:, node]).all()
        assert np.allclose(info["confidence"], record.confidence[:, node], atol=1e-5)
        assert np.allclose(info["location"], record.location[:, node - 1], atol=1e-5)
        spent = costs[0][0] + sum(costs[size][1] for size in history)
        assert (info["multiply_adds"] == spent).all()
        assert record.multiply_adds[node] == spent + 3 * recognizer.policy.multiply_adds


def test_a_training_is_judged_at_random_sizes(scenes: ArrayImages) -> None:
    recognizer, record = make_recognizer(scenes, sizes=SIZES)

    mixed = final_accuracy(recognizer.classifier, scenes, recognizer.policy, max_images=len(scenes), batch_size=2)
    one_size = recognizer.classifier.with_spec(patch_size=48, glance_size=32)
    alone = final_accuracy(one_size, scenes, RandomPolicy(), max_images=9)

    assert 0 <= mixed <= 1
    assert record.largest_patches == [0, 3, 12, 39]
    expected = evaluate(one_size, scenes, RandomPolicy(), max_images=9)
    assert alone == (expected.prediction[:, -1] == expected.label).mean()


def test_the_oracle_is_better_than_random_at_every_size(scenes: ArrayImages) -> None:
    recognizer, _ = make_recognizer(scenes, sizes=SIZES)
    networks = recognizer.classifier.with_spec(num_glimpses=2)

    best, random = (evaluate(networks, scenes, policy) for policy in (OraclePolicy(networks, 5), RandomPolicy()))

    assert (best.label_probability[:, 1:].mean(axis=0) > random.label_probability[:, 1:].mean(axis=0)).all()


# --- runs ------------------------------------------------------------------------------------------------------------

SHRUNK = (
    *(f"data.scenes.height={SMALL_SCENES.height}", f"data.scenes.width={SMALL_SCENES.width}"),
    *("data.num_train=16", "data.num_val=8", "data.num_test=8", "classifier.num_glimpses=3", "fixed_place_grid=2"),
    *("stage2.num_envs=8", "stage2.env_steps=16", "stage2.options.n_steps=2", "oracle_grid=2"),
    "stage2.policy_options={extractor: {units: 8}}",
)
ONE_STEP = (
    *("initialization.full_resolution.epochs=1", "initialization.low_resolution.epochs=1", "stage1.epochs=1"),
    *("initialization.low_resolution_sides=[]", "stage3.epochs=1", "stage2.evaluations=1"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step of every stage of `ms_synthetic_signs`; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "ms"
    assert main(["train", "ms_synthetic_signs", "--out", str(folder), "--quiet", "--set", *SHRUNK, *ONE_STEP]) == 0
    return folder


def test_every_stage_of_the_embedded_config_trains(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())

    assert [len(metrics["accuracy"][name]) for name in ("random", "learned", "oracle")] == [3, 3, 3]
    assert len(metrics["multiply_adds"]["cumulative"]) == 3
    assert (run / "stage3" / "classifier.safetensors").is_file() and (run / "report.html").is_file()
    recognizer = load_recognizer(run)
    assert recognizer.calibration is not None and recognizer.calibration.patch_sizes == (32, 48, 64)


def test_budgets_of_several_sizes_are_evaluated_plotted_and_reported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adaptive = json.loads((run / "metrics.json").read_text())["adaptive"]
    record = load_record(run / "evaluation" / "learned.safetensors")

    assert adaptive["patch_sizes"] == [32, 48, 64]
    assert set(adaptive["curves"]) == {"confidence", "entropy", "random"}  # no geometric exits with several sizes
    for curve in adaptive["curves"].values():
        assert curve["budgets"][0] == record.multiply_adds[0] and curve["budgets"][-1] == record.multiply_adds.max()
        assert all(low <= high for low, high in zip(curve["accuracies"], curve["bounds"], strict=True))
        for exits, shares in zip(curve["exits"], curve["size_shares"], strict=True):
            assert sum(shares) == pytest.approx(float(exits[0] < 1.0))  # no patch where all exit after the glance
    report = (run / "report.html").read_text()
    assert "How many of the patches have each size" in report

    shutil.copytree(run, tmp_path / "copy")
    assert main(["plot", str(run), str(tmp_path / "copy"), "--out", str(tmp_path / "plots")]) == 0
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {"budgeted.png", "multiscale.png", "sizes_ms.png", "sizes_copy.png"} <= names
    assert main(["evaluate", str(tmp_path / "copy"), "--policies", "learned", "--budget", "10M"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "coordinate ascent" in line]
    assert "confidence" in row


def test_predict_takes_a_threshold_for_each_size(
    run: Path, tmp_path: Path, scenes: ArrayImages, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(scenes.images[0].permute(1, 2, 0).numpy()).save(tmp_path / "scene.png")
    command = ["predict", str(run), str(tmp_path / "scene.png"), "--json"]

    assert main([*command, "--thresholds", "1, -1, -1; -1, -1, 1", "--pictures", str(tmp_path)]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["patch_sizes"] == [32, 64] and found["steps"] == 3
    for wrong in ("1,1", "1,1; 1,1"):
        assert main([*command, "--thresholds", wrong]) == 1
        assert "thresholds have shape" in capsys.readouterr().err


def test_other_sizes_of_a_trained_run_can_be_evaluated(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(run), "--split", "val", "--policies", "learned", "--quiet", "--set"]
    assert main([*command, "classifier.patch_sizes=[24, 48, 64]"]) == 0
    assert main([*command, "classifier.patch_sizes=[48, 64]"]) == 1
    assert "3 patch sizes" in capsys.readouterr().err


def test_cost_prints_every_size_history() -> None:
    config = load_config("ms_synthetic_signs", ["data.scenes.height=96"])
    cost = run_cost(config, 10)

    assert len(cost.cumulative) == len(cost.per_step) == len(cost.head) == 40
    for node, history in enumerate(HISTORIES[1:], start=1):
        assert cost.per_step[node] == cost.encoders[history[-1]] + cost.head[node] + cost.policy
        assert cost.cumulative[node] == cost.cumulative[(node - 1) // 3] + cost.per_step[node]
    table = cost_table(cost)
    columns = [list(column.cells) for column in table.columns]
    assert columns[1][:6] == ["", "32", "48", "64", "32 32", "32 48"] and columns[1][-1] == "64 64 64"
    assert columns[-1][-1] == f"{cost.cumulative[-1]:,}"
