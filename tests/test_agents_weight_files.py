"""Policies and evaluation records as files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.evaluation.record import EvaluationRecord, load_record, save_record
from agents.policies.weights import load_policy, save_policy
from agents.runs.config import Stage2Spec
from agents.runs.run import new_agent, policy_env
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from classifiers.tensor_files import CheckpointError


def _agent(classifier: FrozenClassifier, scenes: ArrayImages, name: str = "ppo", seed: int = 0) -> BaseAlgorithm:
    options = {"buffer_size": 1} if name == "sac" else {}
    spec = Stage2Spec(env_steps=1, agent=name, num_envs=1, options=options)
    agent = new_agent(policy_env(classifier, scenes, spec), spec, seed)
    assert isinstance(agent, BaseAlgorithm)
    return agent


def _contents(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata()), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("name", ["ppo", "ppo_gru", "recurrent_ppo", "sac"])
def test_equal_policies_give_equal_bytes_and_come_back(
    name: str, classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    agent = _agent(classifier, scenes, name)
    for path in ("a", "b"):
        save_policy(f"{tmp_path}/{path}", _agent(classifier, scenes, name))

    other = load_policy(str(tmp_path / "a"), _agent(classifier, scenes, name, seed=1))

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert list(_contents(tmp_path / "a")[0]) == ["gfnet-policy"]  # several entries would come in random order
    for key, value in agent.policy.state_dict().items():
        assert torch.equal(value, other.policy.state_dict()[key]), key


def _record() -> EvaluationRecord:
    rng = np.random.default_rng(0)
    by_step = {name: rng.random((5, 3), np.float32) for name in ("confidence", "entropy", "label_probability")}
    return EvaluationRecord(
        label=np.arange(5),
        boxes=np.zeros((5, 1, 4), np.int64),
        prediction=np.ones((5, 3), np.int64),
        location=rng.random((5, 2, 2), np.float32),
        multiply_adds=np.array([10, 20, 30]),
        patch_sizes=(8,),
        image_size=(32, 40),
        **by_step,
    )


@pytest.mark.parametrize("patch_sizes", [(8,), (8, 16)])
def test_records_survive_the_disk_bit_by_bit(patch_sizes: tuple[int, ...], tmp_path: Path) -> None:
    record, path = dataclasses.replace(_record(), patch_sizes=patch_sizes), tmp_path / "learned.safetensors"
    save_record(str(path), record)

    again = load_record(str(path))

    assert (again.patch_sizes, again.image_size) == (patch_sizes, (32, 40))
    assert again.num_steps == (3 if len(patch_sizes) == 1 else 2)
    for name, value in vars(record).items():
        assert np.array_equal(getattr(again, name), value), name
        assert np.asarray(getattr(again, name)).dtype == np.asarray(value).dtype


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "learned.safetensors"
    save_record(path, _record())
    arrays = _contents(path)[1]

    for facts, changes in (("{}", {}), ('{"patch_sizes": [8], "image_size": 3}', {}), (None, {"x": torch.zeros(1)})):
        save_file({**arrays, **changes}, path, {"gfnet-record": facts or _contents(path)[0]["gfnet-record"]})
        with pytest.raises(CheckpointError, match=r"learned\.safetensors"):
            load_record(path)
    with pytest.raises(FileNotFoundError, match="none"):
        load_record(tmp_path / "none")
