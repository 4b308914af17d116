"""The layout of a run's folder.

    config.yaml                                   everything that decides the run
    initialization/full_resolution.safetensors    the baseline; f_L starts from it
    initialization/full_resolution.unlearned.json accuracy of a baseline that has learned nothing and was trained again
    initialization/low_resolution_*.safetensors   fine-tuned at lower resolutions; f_G starts from the last one
    stage1/classifier.safetensors                 f_G, f_L, f_C after random patches
    stage2/policy.safetensors                     pi
    stage3/classifier.safetensors                 f_G, f_L, f_C after pi's patches
    evaluation/*.safetensors                      records per image and step, one file for each policy
    metrics.json, metrics.jsonl, report.html, ... results

`*.training.pt` and `stage2/training.pt` hold the state of an unfinished stage and are removed when it is done; `.lock`
is locked while a process works on the run.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import gfnet_env
from agents.runs.config import RunConfig
from gfnet_env.tasks import PRETRAINED_RUN, run_weights


class RunFolder:
    """Paths of a run's files.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
        config: the resolved config.
        full_resolution: the baseline network.
        unlearned: what a baseline reached that had learned nothing and was trained again with other statistics.
        policy: the policy's weights.
        metrics: the results.
        latency: latency for one image at a time, if it was measured.
        log: one line for each epoch and rollout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.full_resolution = path / "initialization" / "full_resolution.safetensors"
        self.unlearned = path / "initialization" / "full_resolution.unlearned.json"
        self.policy = path / "stage2" / "policy.safetensors"
        self.metrics = path / "metrics.json"
        self.latency = path / "latency.json"
        self.log = path / "metrics.jsonl"

    def low_resolution(self, side: int) -> Path:
        """The network fine-tuned on images of this side; f_G starts from the one of the glance's."""
        return self.path / "initialization" / f"low_resolution_{side}.safetensors"

    def record(self, policy: str) -> Path:
        """The evaluation record of a policy."""
        return self.path / "evaluation" / f"{policy}.safetensors"

    def classifier(self, stage: int) -> Path:
        """The classifier after stage 1 or 3."""
        return self.path / f"stage{stage}" / "classifier.safetensors"

    def round(self, number: int) -> RunFolder:
        """Folder of the policy and the classifier of an earlier round; those of the last round are in the run's own."""
        return RunFolder(self.path / f"round_{number}")


def made_by(device: str) -> dict[str, str]:
    """What makes a run or its results: version and commit of this package, torch, device, date and command.

    Args:
        device: where the networks run.
    """
    root, commit = Path(__file__).parents[2], ""
    if (root / ".git").exists() and (git := shutil.which("git")):
        asked = subprocess.run([git, "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = asked.stdout.strip()
    program, *arguments = sys.argv
    return {
        "version": gfnet_env.__version__,
        "commit": commit or "unknown",
        "torch": torch.__version__,
        "device": device,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(shlex.join([Path(program).name, *arguments]).split()),
    }


def origin_comment(made: Mapping[str, str]) -> str:
    """What `made_by` found, as comments that begin a YAML file."""
    return "".join(f"# {name}: {value}\n" for name, value in made.items())


def start_folder(start: str | Path) -> Path:
    """The run whose networks `RunConfig.start` names; that is none for `"task"`."""
    return PRETRAINED_RUN if start == "pretrained" else Path(start)


def classifier_file(config: RunConfig, folder: Path) -> Path:
    """The classifier that a run looks through in the end: its own last one, else that of the run it starts from.

    Raises:
        FileNotFoundError: if there is none.
    """
    if config.start_stage == 1 or RunFolder(folder).classifier(3).is_file():
        return run_weights(folder)
    return run_weights(folder if config.start is None or config.start == "task" else start_folder(config.start))


def full_resolution_file(config: RunConfig, folder: Path) -> Path:
    """The baseline of a run: its own, or that of the run it starts from; there may be no such file."""
    own = config.start is None or config.start == "task"
    return RunFolder(folder if own else start_folder(str(config.start))).full_resolution


def read_metrics(folder: Path) -> dict[str, Any]:
    """The results of a finished run, with `latency` where that was measured.

    Args:
        folder: the run's.

    Returns:
        What `agents.runs.results.evaluate_run` found, and `env_steps` and `seconds` of a trained run.

    Raises:
        FileNotFoundError: if the run has none yet.
        ValueError: if the file is damaged.
    """
    files = RunFolder(folder)
    if not files.metrics.is_file():
        raise FileNotFoundError(f"{folder} has no metrics.json; pass the folder of a finished run")
    metrics = known_metrics(folder)
    if files.latency.is_file():
        metrics["latency"] = _read_json(files.latency, ("cumulative_ms",), "measure it again")
    return metrics


def known_metrics(folder: Path) -> dict[str, Any]:
    """The results of a run; empty if there are none.

    Raises:
        ValueError: if the file is damaged.
    """
    path = RunFolder(folder).metrics
    way_out = f"delete it and run `gfnet evaluate {folder}`"
    return _read_json(path, ("accuracy", "multiply_adds", "images"), way_out) if path.is_file() else {}


def _read_json(path: Path, needed: tuple[str, ...], way_out: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        for key in needed:
            content[key]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); {way_out}") from error
    return content
