"""Whether a policy looks where the image asks it to: the figures, the verdict, and where a run shows them."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from records import make_record
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import agents
import agents.algorithms.stage2
import agents.runs.policy_training
from agents.evaluation.metrics import training_findings
from agents.evaluation.record import EvaluationRecord
from agents.runs.log import curve
from scripts.cli import main


def _record(
    location: np.ndarray,
    confidence: np.ndarray | None = None,
    patches: tuple[int, ...] = (48,),
    size: tuple[int, int] = (192, 256),
) -> EvaluationRecord:
    """A record of looks at (N, nodes - 1, 2) locations."""
    confidence = np.full((len(location), location.shape[1] + 1), 0.5) if confidence is None else confidence
    return make_record(confidence, location=location.astype(np.float32), patch_sizes=patches, image_size=size)


def _random(images: int = 500, looks: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((images, looks, 2))


# --- the figures ----------------------------------------------------------------------------------------------------


def test_random_looks_have_the_spread_and_border_of_a_uniform_distribution() -> None:
    found = agents.diagnose(_record(_random(20_000)))

    assert found.spread == pytest.approx([12**-0.5] * 3, abs=0.003)
    assert found.border == pytest.approx(1 - 0.96**2, abs=0.005)
    assert found.looks == 3
    assert not found.collapsed and found.explanation == ""


def test_spread_is_over_images_and_the_mean_of_rows_and_columns() -> None:
    looks = np.array([[[0.2, 0.5], [0.4, 0.4]], [[0.4, 0.5], [0.4, 0.4]]])

    assert agents.diagnose(_record(looks)).spread == pytest.approx([0.05, 0.0], abs=1e-7)


def test_border_counts_looks_at_any_edge() -> None:
    edges = [(0.019, 0.5), (0.5, 0.019), (0.981, 0.5), (0.5, 0.981), (0.021, 0.979), (0.5, 0.5)]

    assert agents.diagnose(_record(np.array(edges)[:, None])).border == pytest.approx(4 / 6)


def test_overlap_is_the_mean_over_pairs_of_patches() -> None:
    rows = np.array([[0.0, 0.5, 1.0]])  # patches of 10 in 30 pixels: rows 0, 10, 20; columns 0, 5, 0
    looks = np.stack([rows, np.array([[0.0, 0.25, 0.0]])], axis=2)
    beside = agents.diagnose(_record(looks, patches=(10,), size=(30, 30)))
    above = agents.diagnose(_record(looks * [0.5, 1.0], patches=(10,), size=(30, 30)))  # rows 0, 5, 10

    assert beside.overlap == 0
    assert above.overlap == pytest.approx((25 / 175 + 0 + 25 / 175) / 3)
    assert agents.diagnose(_record(_random(looks=1))).overlap is None


def test_looks_end_with_the_first_confident_patch() -> None:
    confidence = np.array([[0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.9, 0.9], [0.1, 0.7, 0.1, 0.9], [0.9, 0.1, 0.1, 0.1]])
    record = _record(_random(4), confidence)

    assert agents.diagnose(record, 0.7).looks == (1 + 2 + 3 + 3) / 4  # a confident glance ends nothing
    assert agents.diagnose(record).looks == 3


def test_with_several_sizes_looks_are_averaged_over_the_sizes_of_each_step() -> None:
    """Sizes 10 and 20 in 30x40 pixels; nodes: 10, 20, then 10 10, 10 20, 20 10, 20 20."""
    row = np.array([[0.0, 0.5], [0.0, 0.5], [0.0, 0.5], [0.0, 0.5], [0.0, 0.5], [1.0, 0.5]])
    looks = np.stack([row, row * [1.0, 0.0] + [0.0, 0.3]])
    found = agents.diagnose(_record(looks, patches=(10, 20), size=(30, 40)))

    assert found.spread == pytest.approx([0.05, 0.05])  # 0 along rows, 0.1 along columns
    assert found.border == 1.0 and found.looks == 2
    # the two images have equal rows, and columns that cancel out for patches of one size
    # columns of the first image: 15 to 25 and 10 to 30, of the second: 9 to 19 and 6 to 26
    same, within, apart = 1.0, 100 / 400, (20 * 10) / (800 - 200)
    assert found.overlap == pytest.approx((same + within + within + apart) / 4)

    confidence = np.array([[0.9, 0.1, 0.8, 0.1, 0.1, 0.1, 0.1]] * 2)
    assert agents.diagnose(_record(looks, confidence, (10, 20), (30, 40)), 0.7).looks == 1.5  # one look if it is large


# --- the verdict ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("looks", "message"),
    [
        (0.5 + 0.1 * (_random() - 0.5), "nearly the same places in all images (spread 0.029"),
        (np.array([0.99, 0.015]) + 0.005 * _random(), "100% of its looks are at a border"),
        (np.round(_random()), "100% of its looks are at a border"),
        (_random(looks=1).repeat(3, axis=1), "the looks of an episode are nearly the same (their patches overlap by"),
    ],
)
def test_collapsed_policies_are_told_in_words(looks: np.ndarray, message: str) -> None:
    found = agents.diagnose(_record(looks))

    assert found.collapsed
    assert found.explanation.startswith("The policy has collapsed: ") and message in found.explanation
    assert found.explanation.endswith("docs/diagnosing.md says what to try.")


def test_looks_that_stay_with_what_they_found_are_no_collapse() -> None:
    """On the built-in task, policies that stay on the sign overlap by up to 0.81 and recognize it."""
    places, away = _random(looks=1), 0.04 * (_random() - 0.5)

    found = agents.diagnose(_record(np.clip(places + away, 0.0, 1.0)))

    assert found.overlap is not None and found.overlap > 0.8 and not found.collapsed


@pytest.mark.parametrize(
    ("looks", "patches", "size"),
    [
        (_random(1), (48,), (192, 256)),  # one image
        (np.full((500, 3, 2), 0.5), (48,), (48, 48)),  # a patch that fills the image
        (_random(looks=2) * [[[1], [0]]], (48, 96), (96, 96)),  # one of two sizes does
        (_random() * [0, 1], (48,), (48, 256)),  # a patch as high as the image
        (_random(), (96,), (104, 104)),  # patches that overlap wherever they lie
    ],
)
def test_without_a_choice_there_is_no_collapse(
    looks: np.ndarray, patches: tuple[int, ...], size: tuple[int, int]
) -> None:
    found = agents.diagnose(_record(looks, patches=patches, size=size))

    assert not found.collapsed and (len(looks) == 1 or found.border < 0.2)


def test_the_pages_snippet_finds_an_untrained_policy_collapsed(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "diagnosing.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)

    exec(compile(snippet, "diagnosing.md", "exec"), {})

    assert "The policy has collapsed: it looks at nearly the same places in all images" in capsys.readouterr().out


# --- a failed training ------------------------------------------------------------------------------------------------


def _predictions(*accuracies: float) -> EvaluationRecord:
    """400 images of three classes, of which the first shares of the images are recognized after each step."""
    label = np.arange(400) % 3
    right = np.arange(400)[:, None] < 400 * np.array(accuracies)
    prediction = np.where(right, label[:, None], (label[:, None] + 1) % 3)
    return make_record(np.full(right.shape, 0.5), label=label, prediction=prediction)


def test_each_part_of_a_training_is_compared_with_what_needs_no_training() -> None:
    chance, random = _predictions(0.3, 0.3, 0.35), _predictions(0.5, 0.55, 0.6)

    network, classifier, places = training_findings(chance, _predictions(0.3, 0.3, 0.35), 0.36)

    assert "full-resolution network, accuracy 0.360" in network and "(0.335)" in network
    assert "classifier, accuracy 0.350" in classifier
    assert "learned places, accuracy 0.300 at t=2" in places and "random ones (0.300)" in places
    assert training_findings(chance, None, 0.68) == [classifier]
    assert training_findings(_predictions(0.5, 0.6, 0.6), random, 0.68) == []
    (one,) = training_findings(_predictions(0.5, 0.54, 0.6), random, 0.68)
    assert "learned places, accuracy 0.600 at t=3" in one
    assert training_findings(_predictions(0.5, 0.6, 0.6), None, None) == []


# --- a run ----------------------------------------------------------------------------------------------------------

SMALL = [
    *("data.scenes.height=96", "data.scenes.width=128", "data.num_train=16", "data.num_val=6", "data.num_test=8"),
    *("oracle_grid=0", "fixed_place_grid=0"),
]
SHORT = ["stage2.num_envs=8", "stage2.options.n_steps=3", "stage2.env_steps=96"]  # four rollouts


def _run(out: Path, *changes: str) -> int:
    return main(["demo", "--out", str(out), "--set", *SMALL, *changes])


def test_a_collapsed_run_says_so_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = ["stage2.options.learning_rate=1e-9", "stage2.evaluations=2"]

    assert _run(tmp_path / "run", *SHORT, *still) == 0

    said = " ".join(capsys.readouterr().out.split())
    diagnostics = json.loads((tmp_path / "run" / "metrics.json").read_text())["diagnostics"]
    warning = diagnostics["warning"]
    assert "nearly the same places in all images" in warning and warning in said
    report = (tmp_path / "run" / "report.html").read_text()
    assert html.escape(warning) in report and "<td>oracle<" not in report  # `SMALL` asks for none
    steps, spread = curve(tmp_path / "run" / "metrics.jsonl", "stage2", "spread_t2")
    assert steps == [48, 96] and max(spread) < 0.05
    explained = curve(tmp_path / "run" / "metrics.jsonl", "stage2", "explained_variance")
    assert explained[0] == [24, 48, 72, 96] and explained[1][-1] == diagnostics["explained_variance"]
    assert diagnostics["policies"]["random"]["spread"][0] > 0.2
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    names = ["spread_t2", "spread_t3", "spread_t4", "border", "overlap", "accuracy", "looks", "explained_variance"]
    assert {f"stage2/{name}" for name in names} <= set(events.Tags()["scalars"])


@pytest.mark.usefixtures("blank_report")
def test_held_out_accuracy_is_logged_while_the_policy_learns_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(tmp_path / "without", *SHORT) == 0  # too short a training
    monkeypatch.setattr(agents.runs.policy_training, "_CURVE_IMAGES", 6)
    monkeypatch.setattr(agents.runs.policy_training, "_CURVE_SHARE", 0.5)  # of 96 glimpses: two times 6 images

    assert _run(tmp_path / "with", *SHORT) == 0

    without, found = (tmp_path / name / "metrics.jsonl" for name in ("without", "with"))
    assert curve(without, "val", "accuracy_4") == ([], [])
    steps, accuracies = curve(found, "val", "accuracy_4")
    assert steps == [48, 96] and all(round(6 * accuracy, 6).is_integer() for accuracy in accuracies)
    assert len({tuple(curve(found, "val", f"accuracy_{step}")[0]) for step in (1, 2, 3, 4)}) == 1
    weights = [(tmp_path / name / "stage2" / "policy.safetensors").read_bytes() for name in ("without", "with")]
    assert weights[0] == weights[1]
    events = EventAccumulator(str(tmp_path / "with" / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("val/accuracy_4")] == [48, 96]


@pytest.mark.usefixtures("blank_report")
def test_a_policy_that_nobody_trained_is_not_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path / "run", "stage2.agent=center_corner") == 0

    diagnostics = json.loads((tmp_path / "run" / "metrics.json").read_text())["diagnostics"]
    assert diagnostics["policies"]["learned"]["spread"] == [0.0] * 3
    assert diagnostics["explained_variance"] is None
    said = capsys.readouterr().out
    assert "collapsed" not in said and "learned places" not in said
