"""Episodes as Minari data sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from agents import CenterCornerPolicy, load_run
from agents.dataset import RECORDED_INFOS, record_dataset
from scripts.cli import main

minari: Any = pytest.importorskip("minari")
ID = "GFNet-SyntheticSigns-v0"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_the_reference_looks_at_the_sign() -> None:
    record_dataset(ID, "gfnet/signs/reference-v0", num_episodes=7, num_scenes=5, split="test")

    dataset = minari.load_dataset("gfnet/signs/reference-v0")
    episodes = list(dataset.iterate_episodes())
    env: Any = dataset.recover_environment().unwrapped
    assert [int(episode.infos["index"][0]) for episode in episodes] == [0, 1, 2, 3, 4, 0, 1]
    assert set(episodes[0].observations) == {"locations", "progress"}
    assert set(episodes[0].infos) == set(RECORDED_INFOS)
    for episode in episodes:
        _, info = env.reset(options={"index": int(episode.infos["index"][0])})
        box = info["boxes"][0]
        for action, location in zip(episode.actions, episode.infos["location"][1:], strict=True):
            *_, info = env.step(action)
            assert info["location"] == pytest.approx(location, abs=1e-6)
            if box.any():
                middle = info["top_left_px"] + info["patch_size"] / 2
                assert ((box[:2] <= middle).all() and (middle <= box[2:]).all()) or (abs(action) == 1.0).any()
        assert info["prediction"] == episode.infos["prediction"][-1]
        assert episode.infos["is_success"][-1] == (info["prediction"] == info["label"])
        assert episode.terminations.tolist() == [False, False, True] and len(episode.rewards) == 3


def test_observations_on_request_are_those_of_the_environment() -> None:
    dataset = record_dataset(ID, "mine-v0", CenterCornerPolicy(), num_episodes=2, observations=True, num_scenes=4)

    env = gymnasium.make(ID, num_scenes=4)
    episode = dataset[1]
    seen = [env.reset(options={"index": 1})[0], *(env.step(action)[0] for action in episode.actions)]
    assert episode.actions[0] == pytest.approx([0.0, 0.0])
    assert dataset.observation_space == env.observation_space
    for key, values in episode.observations.items():
        np.testing.assert_allclose(values, np.stack([each[key] for each in seen]), atol=1e-5)


def test_the_command_records(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = ["--set", "num_scenes=3"]

    assert main(["dataset", ID, "--policy", "random", "--episodes", "4", "--name", "signs/random-v0", *scenes]) == 0
    assert minari.load_dataset("signs/random-v0").total_steps == 12
    assert capsys.readouterr().out == "4 episodes: minari.load_dataset('signs/random-v0')\n"
    run = ["--policy", str(tiny_run), "--episodes", "2", "--name", "signs/run-v0", "--observations"]
    assert main(["dataset", ID, *run, *scenes]) == 0
    policy, env = load_run(tiny_run).policy, gymnasium.make(ID, num_scenes=3)
    ours: Any = env.unwrapped
    env.reset(options={"index": 1})
    expected = policy(ours.dynamics.view(), None)[0][0].numpy()
    assert minari.load_dataset("signs/run-v0")[1].infos["location"][1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["GFNet-SyntheticSign-v0"], "did you mean 'GFNet-SyntheticSigns-v0'"),
        ([ID, "--policy", "oracle"], "--policy oracle"),
        ([ID, "--episodes", "0"], "num_episodes=0"),
        ([ID, "--set", "stop_action=true"], "leave out stop_action"),
    ],
    ids=str,
)
def test_errors_are_one_sentence(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", *words, "--name", "mine-v0", "--set", "num_scenes=3"]) == 1

    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


def test_a_name_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset", ID, "--episodes", "1", "--name", "mine-v0", "--set", "num_scenes=3"]
    assert main(words) == 0

    assert main(words) == 1

    assert "mine-v0 is there already" in capsys.readouterr().err


def test_without_minari(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)

    with pytest.raises(ModuleNotFoundError, match=r"gfnet-gym\[minari\]"):
        record_dataset(ID, "mine-v0", num_episodes=1)
