"""A run to hand on: a folder with all that recognizing needs, and a page about it.

    pack.json                       its format, a checksum of each other file, and when to stop
    README.md                       the model card
    config.yaml                     as the run's, but on the CPU; files and folders are named without the path to them
    stage3/classifier.safetensors   f_G, f_L, f_C
    stage2/policy.safetensors       pi, if it was learned
    evaluation/calibration.safetensors  if the run was evaluated: what thresholds are found on
    metrics.json                    its results then
    onnx/                           graphs for machines without PyTorch, on request

A pack is read as a run is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

import gfnet_env
from agents.evaluation.record import load_record
from agents.evaluation.stopping import ExitRule
from agents.recognition.onnx_export import export_onnx
from agents.recognition.recognizer import Recognizer
from agents.runs.config_files import load_run_config
from agents.runs.folder import RunFolder, classifier_file, known_metrics
from agents.runs.hub import download, is_on_hub, upload
from agents.runs.model_card import model_card
from classifiers.files import json_text, write_json, write_text

_FORMAT = 1
_FACTS, _CARD = "pack.json", "README.md"


@dataclass(frozen=True)
class Pack:
    """What `pack.json` says.

    Attributes:
        version: of this package, which wrote it.
        files: the SHA-256 of each file, by its name in the folder.
        rule: when to stop.
    """

    version: str
    files: dict[str, str]
    rule: ExitRule


def write_pack(
    folder: Path | str, recognizer: Recognizer, out: Path | str, *, license: str | None = None, onnx: bool = False
) -> Path:
    """Packs a run, whole or not at all.

    Args:
        folder: the run's.
        recognizer: of this run, see `agents.load_recognizer`, with the rule that the pack is to stop by.
        out: the pack's folder, which must not exist.
        license: of the weights, by its SPDX id such as `"mit"`; None says that none was given.
        onnx: whether to add ONNX graphs.

    Returns:
        The pack's folder.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if the run lacks a file.
        ModuleNotFoundError: if the extra `onnx` is needed and not installed.
        ValueError: if the run can't be exported, or one of its files is damaged.
        OSError: if the folder can't be written.
    """
    files, out = RunFolder(Path(folder)), Path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists; pass another folder, or delete it")
    config, metrics = load_run_config(files.path), _portable(known_metrics(files.path))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".gfnet-", suffix=".tmp") as temporary:
        made = RunFolder(Path(temporary) / "pack")
        copies = {classifier_file(config, files.path): made.classifier(3), files.policy: made.policy}
        copies[files.record("calibration")] = made.record("calibration")
        for source, target in copies.items():
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        settings = {**_portable(config.model_dump(mode="json")), "device": "cpu"}
        write_text(made.config, yaml.safe_dump(settings, sort_keys=False))
        if metrics:
            metrics["made_by"].pop("command", None)  # it names folders
            write_json(made.metrics, metrics)
        if onnx:
            export_onnx(recognizer, made.path / "onnx")
        held_out = load_record(files.record("learned")) if files.record("learned").is_file() else None
        card = model_card(out.name, config, recognizer, metrics, held_out, license)
        write_text(made.path / _CARD, card)
        _write_facts(made.path, recognizer.rule)
        made.path.rename(out)
    return out


def _portable(value: Any) -> Any:
    """Settings or results with the names of folders and files instead of the paths to them on this machine."""
    if isinstance(value, dict):
        return {key: _portable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_portable(each) for each in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _write_facts(folder: Path, rule: ExitRule) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = {
        "format": _FORMAT,
        "version": gfnet_env.__version__,
        "rule": {"criterion": rule.criterion, "thresholds": rule.thresholds.astype(str).tolist()},
        "files": {path.relative_to(folder).as_posix(): _checksum(path) for path in paths},
    }
    write_text(folder / _FACTS, json_text(facts, indent=2) + "\n")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_run(source: Path | str) -> tuple[Path, Pack | None]:
    """The folder of a run or a pack, which is downloaded if it is on the Hub, and what its `pack.json` says.

    Args:
        source: a folder, or `hf://OWNER/NAME[@REVISION]`, see `agents.runs.hub.download`.

    Returns:
        The folder, and the pack; None for a run that was not packed.

    Raises:
        ValueError: if the pack is of another version, or one of its files is missing, damaged or of another run.
    """
    if not is_on_hub(source):
        folder = Path(source)
        return folder, _read_facts(folder) if (folder / _FACTS).is_file() else None
    folder = download(str(source))
    if not (folder / _FACTS).is_file():
        raise ValueError(f"{source} holds no {_FACTS}; pass a repository that `gfnet push` made")
    return folder, _read_facts(folder)


def _read_facts(folder: Path) -> Pack:
    path = folder / _FACTS
    try:
        facts = json.loads(path.read_bytes())
        number, version = facts["format"], facts["version"]
        if number == _FORMAT:
            rule = ExitRule(facts["rule"]["criterion"], np.array(facts["rule"]["thresholds"], dtype=np.float64))
            pack = Pack(
                version, {str(PurePosixPath(name)): str(digest) for name, digest in facts["files"].items()}, rule
            )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); get the pack again") from error
    if number != _FORMAT:
        raise ValueError(
            f"{folder} is a pack of format {number}, written by gfnet-gym {version}; this is {gfnet_env.__version__}, "
            f"which reads format {_FORMAT}: install that version"
        )
    for name, digest in pack.files.items():
        if name == _CARD or name.startswith("onnx/"):  # anybody may edit the card; the graphs are not downloaded
            continue
        if not (folder / name).is_file():
            raise ValueError(f"{folder} lacks {name}; get the pack again")
        if _checksum(folder / name) != digest:
            raise ValueError(f"{folder / name} is damaged or of another run than {_FACTS}; get the pack again")
    return pack


def push_pack(folder: Path | str, name: str, *, revision: str | None = None, private: bool = False) -> str:
    """Uploads a pack, after its files were checked; see `agents.runs.hub.upload`.

    Args:
        folder: the pack's.
        name: `OWNER/NAME`.
        revision: an existing branch; None for the main one.
        private: whether a new repository is private.

    Returns:
        The address of the commit.

    Raises:
        ValueError: if the folder is no pack, or one of its files is damaged.
    """
    folder, pack = find_run(Path(folder))
    if pack is None:
        raise ValueError(f"{folder} holds no {_FACTS}; pass the folder of a `gfnet pack`")
    return upload(folder, [*pack.files, _FACTS], name, revision=revision, private=private)
