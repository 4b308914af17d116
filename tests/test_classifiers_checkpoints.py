from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from conftest import random_classifier
from safetensors.torch import save_file

from classifiers.checkpoints import (
    CheckpointError,
    load_classifier,
    load_full_resolution,
    save_classifier,
    save_full_resolution,
)
from classifiers.files import write_atomically, write_json, write_text
from classifiers.networks.encoders import build_encoder
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.spec import ClassifierSpec

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
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
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
        with pytest.raises(CheckpointError, match="is not a safetensors file"):
            load_classifier(path)


def test_weights_that_do_not_fit_their_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, random_classifier(SPEC, 3), ("x", "y"))  # two names for three classes

    with pytest.raises(CheckpointError, match="does not fit this version"):
        load_classifier(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_written_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "file.txt", "grüß\n")

    assert (tmp_path / "new" / "file.txt").read_text(encoding="utf-8") == "grüß\n"
