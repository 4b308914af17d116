"""Which networks a result is of: a hash that a run's records and metrics carry."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agents.evaluation.record import EvaluationRecord, load_record
from agents.runs.config import RunConfig
from agents.runs.folder import RunFolder, classifier_file


def networks_fingerprint(config: RunConfig, folder: Path) -> str:
    """A hash of all that decides what a run predicts: weights, policy, number of looks and sizes.

    Args:
        config: the run's.
        folder: the run's.

    Returns:
        64 hexadecimal digits.

    Raises:
        FileNotFoundError: if the run has no classifier yet.
    """
    spec, digest = config.classifier, hashlib.sha256()
    size = spec.patch_size if len(spec.patch_sizes) == 1 else spec.patch_sizes
    facts = (config.stage2.agent, spec.num_glimpses, size, spec.glance_side, config.data.image_size)
    digest.update(repr(facts).encode())
    for path in (classifier_file(config, folder), RunFolder(folder).policy):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_run_record(config: RunConfig, folder: Path, name: str) -> EvaluationRecord:
    """Loads one of a run's evaluation records.

    Args:
        config: the run's.
        folder: the run's.
        name: a policy's, or `"calibration"`.

    Returns:
        The record.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or was computed with other networks than the run's.
    """
    path = RunFolder(folder).record(name)
    record = load_record(path)
    check_networks(record.networks, networks_fingerprint(config, folder), path)
    return record


def check_networks(found: str, expected: str, path: Path) -> None:
    """Checks that a file was computed with a run's present networks.

    Args:
        found: the fingerprint in the file; files of earlier versions have none.
        expected: that of the run's networks.
        path: the file.

    Raises:
        ValueError: if it was computed with others.
    """
    if found and found != expected:
        raise ValueError(f"{path} was computed with other networks than this run's; run `gfnet evaluate` on it again")
