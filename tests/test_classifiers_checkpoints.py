from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_classifier
from safetensors import safe_open
from safetensors.torch import save_file

from classifiers.checkpoints import (
    load_classifier,
    load_full_resolution,
    save_classifier,
    save_full_resolution,
)
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.spec import ClassifierSpec
from classifiers.tensor_files import CheckpointError
from gfnet_env.tasks import PRETRAINED_RUN

SPEC = ClassifierSpec(encoder="small_resnet", head="cascade", patch_size=48, num_glimpses=3)


def test_classifier_survives_the_disk(tmp_path: Path) -> None:
    classifier = random_classifier(SPEC, 3)
    images = torch.randint(0, 256, (2, 3, 60, 70), dtype=torch.uint8)

    save_classifier(tmp_path / "a" / "classifier.safetensors", classifier, ("x", "y", "z"))
    again, names = load_classifier(tmp_path / "a" / "classifier.safetensors")

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


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("bomb-went-off"),)  # type: ignore[return-value]  # what unpickling would call


def test_files_that_carry_code_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, write in (("torch.pt", lambda path: torch.save(_Bomb(), path)), ("pickle", _pickle)):
        write(tmp_path / name)
        with pytest.raises(CheckpointError, match="files that could carry code, such as pickles, are not read"):
            load_classifier(tmp_path / name)
    assert not (tmp_path / "bomb-went-off").exists()


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Bomb()))


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.safetensors is damaged or not a safetensors file"):
        load_classifier(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="holds tensors but no classifier"):
        load_classifier(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="does not exist; pass a run's folder"):
        load_classifier(tmp_path / "none.safetensors")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, random_classifier(SPEC, 3), ("x", "y", "z"))
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"is damaged or not a safetensors file .*restore it from a copy"):
            load_classifier(path)


def test_weights_that_do_not_fit_their_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, random_classifier(SPEC, 3), ("x", "y"))  # two names for three classes

    with pytest.raises(CheckpointError, match=r"is \(3,\), not \(2,\); it is damaged or of another network"):
        load_classifier(path)


def _classifier(path: Path) -> None:
    save_classifier(path, random_classifier(SPEC, 3), ("x", "y", "z"))


def _full_resolution(path: Path) -> None:
    save_full_resolution(path, FullResolutionNetwork(build_encoder("small_resnet", 3)), "small_resnet")


NETWORKS = pytest.mark.parametrize(
    ("save", "load", "entry"),
    [
        (_classifier, load_classifier, "gfnet-classifier"),
        (_full_resolution, load_full_resolution, "gfnet-full-resolution"),
    ],
)
Save, Load = Callable[[Path], None], Callable[[Path], Any]


def _contents(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata()), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


@NETWORKS
def test_changed_content_is_noticed(save: Save, load: Load, entry: str, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save(path)
    whole = path.read_bytes()

    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])  # one bit of a weight
    with pytest.raises(CheckpointError, match=r"network\.safetensors is damaged: its content does not match its hash"):
        load(path)
    path.write_bytes(whole.replace(b"small_resnet", b"smaLl_resnet", 1))  # of the header
    with pytest.raises(CheckpointError, match="does not match its hash; restore it from a copy, or delete it"):
        load(path)


def test_files_of_the_package_have_a_hash() -> None:
    shipped = sorted(PRETRAINED_RUN.parent.rglob("*.safetensors"))

    assert len(shipped) == 6
    for path in shipped:
        with safe_open(path, "pt") as file:
            (facts,) = file.metadata().values()
        assert len(json.loads(facts)["sha256"]) == 64, path


@NETWORKS
def test_files_of_earlier_versions_have_no_hash_and_load(save: Save, load: Load, entry: str, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save(path)
    metadata, weights = _contents(path)
    facts = json.loads(metadata[entry])
    assert len(facts.pop("sha256")) == 64

    save_file(weights, tmp_path / "old.safetensors", {entry: json.dumps(facts)})

    load(tmp_path / "old.safetensors")


@NETWORKS
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    save: Save, load: Load, entry: str, value: float, tmp_path: Path
) -> None:
    path = tmp_path / "network.safetensors"
    save(path)
    metadata, weights = _contents(path)
    names = sorted(name for name, tensor in weights.items() if tensor.is_floating_point())[3:5]
    for name in names:
        weights[name].view(-1)[-1] = value
    facts = {key: fact for key, fact in json.loads(metadata[entry]).items() if key != "sha256"}
    save_file(weights, path, {entry: json.dumps(facts)})

    with pytest.raises(CheckpointError, match=rf"network\.safetensors holds NaN or infinity in {names[0]}; restore it"):
        load(path)


@NETWORKS
@pytest.mark.parametrize(
    "header",
    ["null", "[]", "5", "{", "", "{}", "[" * 5000, '{"spec": null, "class_names": null, "encoder": null}']
    + [
        json.dumps({"spec": spec, "class_names": names, "encoder": encoder, "num_classes": count, "size": size})
        for spec, names, encoder, count, size in [
            ([], ["x", "y", "z"], "small_resnet", "3", None),
            ({"encoder": 5}, ["x", "y", "z"], 5, 3, None),
            ({"encoder": "small_resnet", "patch_size": "48"}, ["x", "y", "z"], "small_resnet", -1, None),
            ({"encoder": "small_resnet", "size": 1}, ["x", "y", "z"], "small_resnet", 3, "48"),
            ({"encoder": "small_resnet"}, "xyz", "small_resnet", 3, [48]),
            ({"encoder": "small_resnet"}, [1, 2, 3], "small_resnet", 3, [-1, 48]),
        ]
    ],
)
def test_damaged_headers_name_the_file_and_the_way_out(
    save: Save, load: Load, entry: str, header: str, tmp_path: Path
) -> None:
    path = tmp_path / "network.safetensors"
    save(path)
    save_file(_contents(path)[1], path, {entry: header})

    with pytest.raises(CheckpointError, match=r"^\S*network\.safetensors [\s\S]*(restore it from a copy|is damaged)"):
        load(path)


@NETWORKS
def test_missing_and_foreign_weights_are_named(save: Save, load: Load, entry: str, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save(path)
    metadata, weights = _contents(path)
    facts = json.dumps({key: fact for key, fact in json.loads(metadata[entry]).items() if key != "sha256"})
    first = min(weights)

    save_file({name: tensor for name, tensor in weights.items() if name != first}, path, {entry: facts})
    with pytest.raises(CheckpointError, match=rf"has no {first} \(1 missing, 0 foreign\)"):
        load(path)
    save_file({**weights, "stranger": torch.zeros(1)}, path, {entry: facts})
    with pytest.raises(CheckpointError, match="holds a foreign stranger"):
        load(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    _classifier(tmp_path / "classifier.safetensors")

    with pytest.raises(CheckpointError, match="holds tensors but no full-resolution network; pass the folder of a run"):
        load_full_resolution(tmp_path / "classifier.safetensors")


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
