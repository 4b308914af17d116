"""What a case is, and what all cases start from: a config and a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agents.runs.config_files import dump_config, load_config
from scripts.cli import main

CANARY = "canary"
"""A file of this name appears in a case's folder when code of a case was executed."""

SHRUNK = [
    *("data.num_train=12", "data.num_val=4", "data.num_test=6", "data.scenes.height=64", "data.scenes.width=80"),
    *("data.scenes.min_sign_px=20", "data.scenes.max_sign_px=30", "classifier.patch_size=32"),
    *("classifier.num_glimpses=3", "classifier.hidden_size=8", "stage2.num_envs=4", "stage2.env_steps=8"),
    *("stage2.options.n_steps=2", "stage2.options.batch_size=8", "stage2.options.n_epochs=1", "oracle_grid=2"),
    "initialization.low_resolution_sides=[]",
    *(f"{part}.epochs=1" for part in ("initialization.full_resolution", "initialization.low_resolution", "stage1")),
    "stage3.epochs=1",
]
"""Makes `synthetic_signs` a run of two seconds."""


@dataclass(frozen=True)
class Case:
    """One command line.

    Attributes:
        arguments: of the command.
        note: what is wrong with them, in a few words.
        must_fail: whether a result would be nonsense, as that of networks with NaN weights.
    """

    arguments: list[str]
    note: str
    must_fail: bool = False


def prepare(base: Path) -> None:
    """Makes what cases start from: a config, a finished run, and pictures."""
    config = dump_config(load_config("synthetic_signs", SHRUNK))
    (base / "config.yaml").write_text(config)
    if main(["train", str(base / "config.yaml"), "--out", str(base / "run"), "--quiet"]) != 0:
        raise SystemExit("the run that cases start from failed; mend that first")
