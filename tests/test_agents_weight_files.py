"""Policies and evaluation records as files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file, save_model
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.evaluation.record import EvaluationRecord, load_record, save_record
from agents.policies.weights import load_policy, save_policy
from agents.runs.config import Stage2Spec
from agents.runs.new_agent import new_agent, policy_env
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
        save_policy(tmp_path / path, _agent(classifier, scenes, name))

    other = load_policy(tmp_path / "a", _agent(classifier, scenes, name, seed=1))

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert list(_contents(tmp_path / "a")[0]) == ["gfnet-policy"]  # several entries would come in random order
    for key, value in agent.policy.state_dict().items():
        assert torch.equal(value, other.policy.state_dict()[key]), key


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_policies_of_earlier_versions_load(
    name: str, classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    agent = _agent(classifier, scenes, name)
    save_model(agent.policy, str(tmp_path / "old"), {"kind": "gfnet-policy"})

    again = load_policy(tmp_path / "old", _agent(classifier, scenes, name, seed=1))

    assert all(torch.equal(a, b) for a, b in zip(agent.policy.parameters(), again.policy.parameters(), strict=True))


def test_damaged_policies_name_the_file_and_the_way_out(
    classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    agent, path = _agent(classifier, scenes), tmp_path / "policy.safetensors"
    save_policy(path, agent)
    whole = path.read_bytes()
    weights = _contents(path)[1]
    first = min(weights)

    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"policy\.safetensors is damaged: its content does not match its hash"):
        load_policy(path, agent)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"is damaged or not a safetensors file .*restore it from a copy"):
        load_policy(path, agent)
    save_file(weights, path)
    with pytest.raises(CheckpointError, match="holds tensors but no policy; pass the folder of a run"):
        load_policy(path, agent)
    save_file({name: weights[name] for name in sorted(weights)[1:]}, path, {"gfnet-policy": "{}"})
    with pytest.raises(CheckpointError, match=rf"has no {first} .*restore it from a copy or train it again"):
        load_policy(path, agent)
    save_file({**weights, first: weights[first] * float("nan")}, path, {"gfnet-policy": "{}"})
    with pytest.raises(CheckpointError, match=f"holds NaN or infinity in {first}"):
        load_policy(path, agent)
    save_file(weights, path, {"gfnet-policy": "null"})
    with pytest.raises(CheckpointError, match="its header entry gfnet-policy is not valid; restore it"):
        load_policy(path, agent)
    with pytest.raises(FileNotFoundError, match="does not exist; pass the folder of a run whose stage II is done"):
        load_policy(tmp_path / "none", agent)


def _record() -> EvaluationRecord:
    rng = np.random.default_rng(0)
    by_step = {name: rng.random((5, 3), np.float32) for name in ("confidence", "entropy", "label_probability")}
    return EvaluationRecord(
        label=np.arange(5),
        box=np.zeros((5, 4), np.int64),
        prediction=np.ones((5, 3), np.int64),
        location=rng.random((5, 2, 2), np.float32),
        multiply_adds=np.array([10, 20, 30]),
        patch_sizes=(8,),
        image_size=(32, 40),
        **by_step,
    )


def test_records_survive_the_disk_bit_by_bit_with_and_without_a_hash(tmp_path: Path) -> None:
    record, path = _record(), tmp_path / "learned.safetensors"
    save_record(path, record)
    metadata, arrays = _contents(path)
    save_file(arrays, tmp_path / "old", {"sizes": json.dumps({"patch_size": 8, "image_size": [32, 40]})})

    for file in (path, tmp_path / "old"):
        again = load_record(file)
        assert (again.patch_sizes, again.image_size) == ((8,), (32, 40))
        for name, value in vars(record).items():
            assert np.array_equal(getattr(again, name), value), name
            assert np.asarray(getattr(again, name)).dtype == np.asarray(value).dtype
    assert len(json.loads(metadata["sizes"])["sha256"]) == 64


def test_records_of_several_sizes_hold_a_column_for_each_history(tmp_path: Path) -> None:
    path = tmp_path / "learned.safetensors"
    record = dataclasses.replace(_record(), patch_sizes=(8, 16))
    save_record(path, record)

    again = load_record(path)

    assert again.patch_sizes == (8, 16) and again.num_steps == 2 and _record().num_steps == 3
    save_record(path, dataclasses.replace(record, patch_sizes=(8, 16, 24)))  # three nodes are no tree of three sizes
    with pytest.raises(CheckpointError, match="is damaged or not an evaluation record"):
        load_record(path)


@pytest.mark.parametrize("header", ["null", "{}", "{", '{"patch_size": [], "image_size": 3}'])
def test_damaged_headers_of_records_say_how_to_make_them_anew(header: str, tmp_path: Path) -> None:
    path = tmp_path / "learned.safetensors"
    save_record(path, _record())
    save_file(_contents(path)[1], path, {"sizes": header})

    with pytest.raises(
        CheckpointError, match=r"learned\.safetensors is damaged.*run `gfnet evaluate` on the run again"
    ):
        load_record(path)


def test_damaged_records_say_how_to_make_them_anew(tmp_path: Path) -> None:
    path = tmp_path / "learned.safetensors"
    save_record(path, _record())
    whole, arrays = path.read_bytes(), _contents(path)[1]
    sizes = {"sizes": json.dumps({"patch_size": 8, "image_size": [32, 40]})}

    def saved(**changes: Any) -> Path:
        kept = {**arrays, **changes}
        save_file({name: value for name, value in kept.items() if value is not None}, path, sizes)
        return path

    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="its content does not match its hash; run `gfnet evaluate`"):
        load_record(path)
    path.write_bytes(whole[:100])
    with pytest.raises(CheckpointError, match=r"not a safetensors file .*run `gfnet evaluate` on the run again"):
        load_record(path)
    with pytest.raises(CheckpointError, match="is damaged or not an evaluation record"):
        load_record(saved(entropy=None))
    with pytest.raises(CheckpointError, match="is damaged or not an evaluation record"):
        load_record(saved(stranger=torch.zeros(1)))
    with pytest.raises(CheckpointError, match=r"entropy is \(5, 2\), not \(5, 3\); run"):
        load_record(saved(entropy=torch.zeros(5, 2)))
    with pytest.raises(CheckpointError, match="holds NaN or infinity in confidence; run"):
        load_record(saved(confidence=torch.full((5, 3), float("nan"))))
    with pytest.raises(CheckpointError, match="is of an earlier version; run"):
        load_record(saved(multiply_adds=None))
    with pytest.raises(FileNotFoundError, match="run `gfnet evaluate` on the run first"):
        load_record(tmp_path / "none")
