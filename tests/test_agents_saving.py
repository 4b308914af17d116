"""Whether a run is as accurate as the full-resolution network, and what it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.runs.config_files import load_config
from agents.runs.folder import read_metrics
from agents.runs.saving import saving
from scripts.report import saving_sentence, summary_lines

CONFIG = load_config("synthetic_signs")


def _metrics(learned: list[float], match: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    costs = {"full_resolution": 100e6, "cumulative": [10e6, 20e6, 30e6]}
    metrics = {"full_resolution_accuracy": 0.68, "accuracy": {"learned": learned}, "multiply_adds": costs}
    metrics |= {"images": 100, "adaptive": {"match": match}, **more}
    return {**metrics, "saving": saving(metrics, CONFIG)}


@pytest.mark.parametrize(
    ("accuracy", "saying"),
    [
        (
            [0.3, 0.7, 0.8],
            "As accurate as the full-resolution network: 0.700 (the network: 0.680) after 2 looks, for 5.0",
        ),
        (
            [0.66, 0.3, 0.3],
            "Not as accurate as the full-resolution network: 0.660 (the network: 0.680) after the glance alone, a "
            "difference within the error of 100 images, with 10.0 M instead of 100.0 M multiply-adds an image. Try ",
        ),
        (
            [0.2, 0.3, 0.4],
            "Not as accurate as the full-resolution network: 0.400 (the network: 0.680) after 3 looks, with 30.0 M ",
        ),
    ],
)
def test_the_first_sentence_answers_the_question(accuracy: list[float], saying: str) -> None:
    sentence = saving_sentence(_metrics(accuracy))

    assert sentence is not None and sentence.startswith(saying)
    assert sentence.endswith("M).") == (" times " in sentence) == ("Not" not in saying)


def test_thresholds_found_on_other_images_come_first() -> None:
    match = {"accuracy": 0.69, "multiply_adds": 125e6}
    metrics = _metrics([0.3, 0.7, 0.8], match, milliseconds={"milliseconds": 2.0, "full_resolution_milliseconds": 6.0})

    assert saving_sentence(metrics) == (
        "As accurate as the full-resolution network: 0.690 (the network: 0.680) stopping early, for 1.2 times more "
        "multiply-adds (125.0 M instead of 100.0 M) and 3.0 times less time (2.0 ms instead of 6.0 ms an image)."
    )


def test_a_network_that_has_learned_nothing_is_no_measure() -> None:
    sentence = saving_sentence(_metrics([0.3, 0.7, 0.8], classes={"images": [60, 40]}))

    assert sentence == (
        "The full-resolution network has learned nothing: 0.680, where naming one class for all images has 0.600. So "
        "there is nothing to compare with. Try a longer training (initialization.full_resolution.epochs=12), or more "
        "training images."
    )
    assert str(saving_sentence(_metrics([0.3, 0.7, 0.8], classes={"images": [55, 45]}))).startswith("As accurate")
    balanced = saving(_metrics([0.3, 0.7, 0.8], classes={"images": [60, 40]}), CONFIG.replace(class_weight="balanced"))
    assert balanced is not None and balanced["has_learned"]
    photos = saving(_metrics([0.3, 0.7, 0.8], classes={"images": [60, 40]}), load_config("grocery"))
    assert photos is not None and "refit_statistics=true" in photos["advice"][0]


def test_advice_fits_what_is_missing() -> None:
    metrics = _metrics([0.2, 0.3, 0.31])
    advice = " ".join(metrics["saving"]["advice"])
    assert "initialization.weights" in advice and "num_glimpses=6" in advice and "stage2" not in advice

    metrics["accuracy"] = {"learned": [0.2, 0.3, 0.3], "random": [0.2, 0.4, 0.4]}
    advice = " ".join(saving(metrics, CONFIG)["advice"])  # type: ignore[index]
    assert f"stage2.env_steps={2 * CONFIG.stage2.env_steps}" in advice and "num_glimpses" not in advice
    assert saving({**metrics, "full_resolution_accuracy": None}, CONFIG) is None


def test_a_run_is_timed_beside_its_network(tiny_run: Path) -> None:
    metrics = read_metrics(tiny_run)

    taken = metrics["milliseconds"]
    assert taken["milliseconds"] > 0 and taken["full_resolution_milliseconds"] > 0 and taken["images"] == 12
    first = summary_lines(metrics)[0]
    assert " ms an image" in first and first in " ".join((tiny_run / "report.html").read_text().split()).replace(
        "&#39;", "'"
    )
