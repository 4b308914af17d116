"""Files of a run of which bytes were changed or cut off: they load as they were, or are one sentence; no code runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from properties import check_sentence, examples, holds

from agents.algorithms.make_agent import make_agent
from agents.algorithms.training_state import STATE_KEYS, save_training_state
from agents.evaluation.record import load_record
from agents.policies.weights import load_policy, save_policy
from agents.runs.config_files import load_run_config
from agents.runs.log import RunLog
from agents.runs.metrics_file import read_metrics
from agents.runs.model_selection import read_facts
from agents.runs.yaml_text import ConfigError
from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.data.source import ArrayImages
from classifiers.files import write_json
from classifiers.inference.frozen import FrozenClassifier
from classifiers.tensor_files import CheckpointError, read_pickle
from classifiers.training.saved_state import load_state
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task
from gfnet_env.tasks import PRETRAINED_RUN, run_weights

pytestmark = pytest.mark.slow  # a trained run is needed

DAMAGE = {
    "flips": st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3),
    "at_ends": st.lists(st.tuples(st.integers(-3000, 3000), st.integers(1, 255)), max_size=2),
    "cut_at": st.one_of(st.just(1.0), st.just(1.0), st.floats(0, 1)),
    "tail": st.one_of(st.just(b""), st.just(b""), st.binary(max_size=5)),
}


def _damaged(content: bytes, flips: list[Any], at_ends: list[Any], cut_at: float, tail: bytes) -> bytes:
    """With bytes changed anywhere, in the header and at the end, where archives have a directory; cut or lengthened."""
    changed = bytearray(content)
    for place, change in flips:
        changed[int(place * len(changed))] ^= change
    for place, change in at_ends:
        if -len(changed) <= place < len(changed):
            changed[place] ^= change
    return bytes(changed[: int(cut_at * len(changed))]) + tail


def _same(ours: Any, theirs: Any) -> bool:
    """Equal, tensors and arrays in it elementwise."""
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours, torch.Tensor):
        return _same(ours.numpy(), theirs.numpy())
    if isinstance(ours, np.ndarray):
        return ours.dtype == theirs.dtype and np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
    return bool(ours == theirs)


def _classifier(path: Path) -> Any:
    classifier, names = load_classifier(path)
    return classifier.state_dict(), classifier.spec, names


@pytest.fixture(scope="module")
def agent(classifier: FrozenClassifier, scenes: ArrayImages) -> Any:
    env = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=2, autoreset_mode="SAME_STEP")
    made: Any = make_agent("ppo", env, policy_kwargs={"extractor": {"conv_channels": 2, "units": 8}})
    made.learn(6)
    return made


@pytest.fixture
def file(
    request: pytest.FixtureRequest, agent: Any, demo_run: Path, tmp_path: Path
) -> tuple[Path, Callable[[Path], Any]]:
    """A file and what reads it."""
    kind = request.param
    if kind == "classifier":
        path = tmp_path / "classifier.safetensors"
        save_classifier(path, *load_classifier(run_weights(PRETRAINED_RUN)))
        return path, _classifier
    if kind == "policy":
        path = tmp_path / "policy.safetensors"
        save_policy(path, agent)
        return path, lambda path: load_policy(path, agent).policy.state_dict()
    if kind == "record":
        path = tmp_path / "record.safetensors"
        shutil.copyfile(demo_run / "evaluation" / "learned.safetensors", path)
        return path, lambda path: vars(load_record(path))
    path = tmp_path / "training.pt"
    save_training_state(path, agent)
    return path, lambda path: load_state(path, STATE_KEYS)


@examples(40, 300)
@pytest.mark.parametrize("file", ["classifier", "policy", "record", "training"], indirect=True)
def test_a_damaged_checkpoint_loads_as_it_was_or_is_one_sentence(
    count: int, file: tuple[Path, Callable[[Path], Any]]
) -> None:
    path, load = file
    content, whole = path.read_bytes(), load(path)
    whole = {key: value.clone() for key, value in whole.items()} if path.name == "policy.safetensors" else whole

    @holds(count, **DAMAGE)
    def check(**damage: Any) -> None:
        path.write_bytes(_damaged(content, **damage))
        try:
            found = load(path)
        except CheckpointError as error:
            check_sentence(error, path)
            return
        # a file whose hash has lost its name is read as one of an older version, which had none
        has_hash = path.name == "training.pt" or b"sha256" in path.read_bytes()
        assert _same(found, whole) or not has_hash


@examples(40, 200)
@pytest.mark.parametrize("name", ["metrics.json", "metrics.jsonl", "config.yaml", "best.json"])
def test_a_damaged_text_is_read_or_one_sentence(name: str, count: int, demo_run: Path, tmp_path: Path) -> None:
    """A digit may have become another: nothing says so. But it is never another error, and numbers are finite."""
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / name
    readers: dict[str, Callable[[], Any]] = {
        "metrics.json": lambda: read_metrics(folder),
        "metrics.jsonl": lambda: RunLog(path, folder / "tensorboard"),
        "config.yaml": lambda: load_run_config(folder),
        "best.json": lambda: read_facts(path),
    }
    if name == "best.json":
        write_json(path, {"asked": 3, "accuracy": 0.5})
    else:
        shutil.copyfile(demo_run / name, path)
    content = path.read_bytes()
    readers[name]()

    @holds(count, **DAMAGE)
    def check(**damage: Any) -> None:
        path.write_bytes(_damaged(content, **damage))
        try:
            readers[name]()
        except FileNotFoundError as error:
            check_sentence(error, folder)
        except ConfigError as error:
            check_sentence(error)
        except ValueError as error:
            check_sentence(error, path)


@examples(40, 300)
def test_a_damaged_pickle_runs_no_code(count: int, published: Path, tmp_path: Path) -> None:
    """Of GFNet's authors, or a malicious one: what is read is plain, or nothing is."""
    canary = tmp_path / "canary"
    path = tmp_path / "model.pth.tar"
    program = f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()
    small = tmp_path / "small.pt"
    torch.save({"weights": torch.arange(6.0), "epoch": 3, "results": np.arange(3.0)}, small)
    contents = [program, small.read_bytes()]

    @holds(count, which=st.sampled_from([0, 1]), **DAMAGE)
    def check(which: int, **damage: Any) -> None:
        path.write_bytes(_damaged(contents[which], **damage))
        try:
            read_pickle(path, "pass another")
        except CheckpointError as error:
            check_sentence(error, path)
        assert not canary.exists()
