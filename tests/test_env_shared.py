"""Environments with equal arguments share images and networks, and nothing else."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL_SCENES, random_classifier

from classifiers.checkpoints import save_classifier
from classifiers.data.synthetic_signs.signs import CLASS_NAMES
from classifiers.networks.spec import ClassifierSpec
from gfnet_env.shared import shared

ID = "GFNet-SyntheticSigns-v0"
SPEC = ClassifierSpec(encoder="small_resnet", patch_size=24, num_glimpses=3, hidden_size=8)


def _make(**kwargs: Any) -> Any:
    return gymnasium.make(ID, **{"num_scenes": 6, "scenes": SMALL_SCENES, "patch_size": 24, **kwargs}).unwrapped


def _parts(env: Any) -> tuple[Any, Any]:
    return env.task.source, env.task.classifier.local_encoder


def test_equal_arguments_share_images_and_networks() -> None:
    one, other, larger = _make(), _make(reward="increment", num_glimpses=3), _make(num_scenes=7)

    assert one.task.source is other.task.source is not larger.task.source
    assert one.task.classifier.local_encoder is larger.task.classifier.local_encoder
    assert (one.num_glimpses, other.num_glimpses) == (4, 3)


def test_environments_that_share_do_not_disturb_each_other() -> None:
    action = np.array([0.2, -0.3], np.float32)

    def play(env: Any) -> list[float]:
        return [env.reset(seed=3)[1]["index"], *(float(env.step(action)[1]) for _ in range(2))]

    alone = _make()
    expected = play(alone)
    del alone
    gc.collect()
    one, other = _make(), _make()
    other.reset(seed=8)
    first = [one.reset(seed=3)[1]["index"], float(one.step(action)[1])]
    other.step(-action)
    other.close()

    assert [*first, float(one.step(action)[1])] == expected


def test_nothing_is_kept_beyond_its_last_user() -> None:
    one, other = _make(), _make()
    source = weakref.ref(one.task.source)

    del one
    gc.collect()
    assert source() is other.task.source
    del other
    gc.collect()
    assert source() is None


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, random_classifier(SPEC, len(CLASS_NAMES), seed=0), CLASS_NAMES)
    first, same = _make(classifier=path), _make(classifier=path)
    save_classifier(path, random_classifier(SPEC, len(CLASS_NAMES), seed=1), CLASS_NAMES)
    os.utime(path, ns=(1, 1))
    changed = _make(classifier=path)

    assert _parts(first)[1] is _parts(same)[1]
    weights = [env.task.classifier.local_encoder.classifier.weight for env in (first, changed)]
    assert not torch.equal(*weights)


def test_a_classifier_that_the_caller_holds_is_copied() -> None:
    mine = random_classifier(SPEC, len(CLASS_NAMES))
    before = _make(classifier=mine)
    with torch.no_grad():
        mine.local_encoder.classifier.weight.add_(1.0)

    after = _make(classifier=mine)

    weights = [env.task.classifier.local_encoder.classifier.weight for env in (before, after)]
    assert torch.allclose(weights[0] + 1.0, weights[1])


class _Thing:
    pass


def test_threads_wait_for_one_object() -> None:
    made: list[_Thing] = []
    got: list[_Thing] = []
    started = threading.Event()

    def make() -> _Thing:
        started.wait(10)
        made.append(_Thing())
        return made[-1]

    threads = [threading.Thread(target=lambda: got.append(shared("a test's", make))) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join()

    assert len(made) == 1 and all(each is made[0] for each in got)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12, in a process with threads
@pytest.mark.timeout(60)  # where it hangs
def test_a_fork_while_another_thread_makes_something() -> None:
    inside, leave = threading.Event(), threading.Event()

    def slow() -> _Thing:
        inside.set()
        leave.wait(30)
        return _Thing()

    thread = threading.Thread(target=lambda: shared("slow", slow))
    thread.start()
    inside.wait(10)
    child = os.fork()
    if child == 0:
        shared("in the child", _Thing)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    leave.set()
    thread.join()
