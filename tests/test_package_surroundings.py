"""What belongs to the process, the terminal or the machine, and may be otherwise than ours."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from agents.policies.baselines import CenterCornerPolicy
from agents.recognition.episodes import round_down
from agents.recognition.recognizer import Recognizer
from classifiers.checkpoints import load_classifier
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import frozen
from gfnet_env.tasks import PRETRAINED_RUN, run_weights
from scripts.cli import main


@pytest.fixture
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _episode(env_id: str, **options: Any) -> list[Any]:
    with gymnasium.make(env_id, render_mode="rgb_array", **options) as env:
        first, _ = env.reset(seed=0)
        env.action_space.seed(0)
        second, reward, *_ = env.step(env.action_space.sample())
        assert env.observation_space.contains(first) and env.observation_space.contains(second)
        return [*first.values(), *second.values(), reward, env.render()]


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("GFNet-SyntheticSigns-v0", {"num_scenes": 4, "reward": "contrastive"}),
        ("GFNet-SyntheticSignsHard-v0", {"num_scenes": 4, "feature_stride": 4}),
        ("GFNet-SyntheticGestures-v0", {"num_clips": 4, "reward": "increment"}),
    ],
)
def test_environments_do_not_depend_on_the_default_dtype(
    env_id: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    expected = _episode(env_id, **options)
    request.getfixturevalue("_float64")

    found = _episode(env_id, **options)

    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_recognizers_do_not_depend_on_the_default_dtype(scenes: ArrayImages, request: pytest.FixtureRequest) -> None:
    def predicted() -> tuple[np.ndarray, ...]:
        classifier = frozen(load_classifier(run_weights(PRETRAINED_RUN))[0])
        recognizer = Recognizer(classifier, CenterCornerPolicy(), image_size=(96, 128))
        recognizer.use(thresholds=[0.9, 0.8, 0.7])
        found = recognizer.predict(scenes.images)
        return found.label, found.confidence, found.locations

    expected = predicted()
    request.getfixturevalue("_float64")

    for ours, theirs in zip(predicted(), expected, strict=True):
        assert np.array_equal(ours, theirs, equal_nan=True)


def test_thresholds_of_float32_let_the_same_scores_pass() -> None:
    """Apple's GPUs have no float64."""
    scores = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    thresholds = torch.cat(
        [scores.double() + 1e-12, scores.double(), scores.double() - 1e-12, -torch.inf * torch.ones(1)]
    )

    rounded = round_down(thresholds)

    assert rounded.dtype == torch.float32
    assert torch.equal(scores[:, None] <= rounded, scores[:, None] <= thresholds)


def test_a_terminal_may_lack_characters(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "\N{GRINNING FACE}.png"
    picture.write_bytes((tiny_run / "glimpses.png").read_bytes())
    output = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", output)

    assert main(["predict", str(tiny_run), str(picture)]) == 0

    output.flush()
    assert b"\\U0001f600.png" in output.buffer.getvalue()  # type: ignore[attr-defined]  # a BytesIO
