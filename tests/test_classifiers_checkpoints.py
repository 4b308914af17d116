"""Networks as files: they come back as they were, and what is no checkpoint is refused without running its code."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_classifier
from safetensors import safe_open
from safetensors.torch import save_file

from classifiers.checkpoints import load_classifier, load_full_resolution, save_classifier, save_full_resolution
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.spec import ClassifierSpec
from classifiers.tensor_files import CheckpointError, read_torch

SPEC = ClassifierSpec(encoder="small_resnet", head="cascade", patch_size=48, num_glimpses=3)


def test_classifier_survives_the_disk(tmp_path: Path) -> None:
    classifier = random_classifier(SPEC, 3)
    images = torch.randint(0, 256, (2, 3, 60, 70), dtype=torch.uint8)

    save_classifier(f"{tmp_path}/a/classifier.safetensors", classifier, ("x", "y", "z"))
    again, names = load_classifier(f"{tmp_path}/a/classifier.safetensors")

    assert names == ("x", "y", "z") and again.spec == SPEC and not again.training
    with torch.no_grad():
        assert torch.equal(again.glance(images).logits, classifier.glance(images).logits)


def test_full_resolution_network_survives_the_disk(tmp_path: Path) -> None:
    network = FullResolutionNetwork(build_encoder("small_resnet", 3), (48, 48), "bilinear").eval()

    save_full_resolution(tmp_path / "network.safetensors", network, "small_resnet")
    again = load_full_resolution(tmp_path / "network.safetensors")

    assert (again.size, again.resize_mode) == ((48, 48), "bilinear")
    images = torch.randint(0, 256, (2, 3, 60, 70), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))


def test_equal_networks_give_equal_bytes_and_a_shared_encoder_is_kept_once(tmp_path: Path) -> None:
    shared = ClassifierSpec(encoder="small_resnet", head="average", patch_size=48, shares_encoder=True)
    apart = ClassifierSpec(encoder="small_resnet", head="average", patch_size=48)
    for name, spec in (("one", shared), ("two", shared), ("apart", apart)):
        save_classifier(tmp_path / name, random_classifier(spec, 3), ("x", "y", "z"))

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").stat().st_size < 0.6 * (tmp_path / "apart").stat().st_size
    again, _ = load_classifier(tmp_path / "one")
    images = torch.randint(0, 256, (2, 3, 60, 70), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.glance(images).logits, random_classifier(shared, 3).glance(images).logits)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("bomb-went-off"),)  # type: ignore[return-value]  # what unpickling would call


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # which torch.load warns of
@pytest.mark.parametrize("read", [load_classifier, read_torch])
def test_files_that_carry_code_are_not_read(
    read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(_Bomb(), tmp_path / "torch.pt")
    (tmp_path / "pickle").write_bytes(pickle.dumps(_Bomb()))
    for name in ("torch.pt", "pickle"):
        with pytest.raises(CheckpointError, match=name):
            read(tmp_path / name)
    assert not (tmp_path / "bomb-went-off").exists()


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "classifier.safetensors", tmp_path / "training.pt"
    save_classifier(path, random_classifier(SPEC, 3), ("x", "y", "z"))
    torch.save({"weights": torch.zeros(100)}, state)
    for file, read in ((path, load_classifier), (state, read_torch)):
        whole = file.read_bytes()
        for length in (0, 7, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:length])
            with pytest.raises(CheckpointError, match=file.name):
                read(file)


def test_files_of_another_kind_and_missing_ones_are_named(tmp_path: Path) -> None:
    _classifier(tmp_path / "classifier.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")

    with pytest.raises(CheckpointError, match=r"classifier\.safetensors holds gfnet-classifier"):
        load_full_resolution(tmp_path / "classifier.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        load_classifier(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_classifier(tmp_path / "none.safetensors")


def _classifier(path: Path) -> None:
    save_classifier(path, random_classifier(SPEC, 3), ("x", "y", "z"))


def _full_resolution(path: Path) -> None:
    save_full_resolution(path, FullResolutionNetwork(build_encoder("small_resnet", 3)), "small_resnet")


@pytest.mark.parametrize(
    ("save", "load", "entry"),
    [
        (_classifier, load_classifier, "gfnet-classifier"),
        (_full_resolution, load_full_resolution, "gfnet-full-resolution"),
    ],
)
def test_files_that_do_not_fit_are_named(
    save: Callable[[Path], None], load: Callable[[Path], Any], entry: str, tmp_path: Path
) -> None:
    path = tmp_path / "network.safetensors"
    save(path)
    with safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
        weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
    first, *others = sorted(weights)
    changed = {
        f"has no {first}": {name: weights[name] for name in others},
        "holds a foreign stranger": {**weights, "stranger": torch.zeros(1)},
        f"holds {first} as": {**weights, first: torch.zeros(7)},
        f"holds NaN or infinity in {first}": {**weights, first: torch.full_like(weights[first], float("inf"))},
    }
    for reason, tensors in changed.items():
        save_file(tensors, path, header)
        with pytest.raises(CheckpointError, match=rf"network\.safetensors {reason}"):
            load(path)
    for facts in ("", "null", "{}", header[entry].replace("small_resnet", "smaller_resnet")):
        save_file(weights, path, {entry: facts})
        with pytest.raises(CheckpointError, match=r"network\.safetensors"):
            load(path)
