"""`metrics.json`, the results of a run, checked when they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agents.runs.config_files import load_run_config
from agents.runs.fingerprint import check_networks, networks_fingerprint
from agents.runs.folder import RunFolder

_NEEDED = {"accuracy": dict, "multiply_adds": dict, "images": int}


def read_metrics(folder: Path) -> dict[str, Any]:
    """The results of a finished run, with `latency` where that was measured.

    Args:
        folder: the run's.

    Returns:
        What `agents.runs.results.evaluate_run` found, and `env_steps` and `seconds` of a trained run.

    Raises:
        FileNotFoundError: if the run has none yet.
        ValueError: if the file is damaged or the results are of other networks.
    """
    files = RunFolder(folder)
    metrics = known_metrics(folder)
    if not metrics:
        raise FileNotFoundError(f"{folder} has no metrics.json; pass the folder of a finished run")
    if files.config.is_file() and metrics.get("networks"):
        check_networks(metrics["networks"], networks_fingerprint(load_run_config(folder), folder), files.metrics)
    if files.latency.is_file():
        metrics["latency"] = _read(files.latency, "measure it again", {"cumulative_ms": list})
    return metrics


def known_metrics(folder: Path) -> dict[str, Any]:
    """The results of a run, whatever networks they are of; empty if there are none.

    Raises:
        ValueError: if the file is damaged.
    """
    path = RunFolder(folder).metrics
    if not path.is_file():
        return {}
    metrics = _read(path, f"delete it and run `gfnet evaluate {folder}`", _NEEDED)
    pointing = metrics.pop("pointing_game_by_policy", None)  # earlier versions held it beside a single figure
    if pointing is not None:
        metrics["pointing_game"] = pointing
    metrics.pop("confidence", None)
    curves = (metrics.get("adaptive") or {}).get("curves", {})
    if "grid_search" in curves:  # how earlier versions looked for the most accurate thresholds
        curves["coordinate_ascent"] = curves.pop("grid_search")
    return metrics


def _read(path: Path, way_out: str, needed: dict[str, type]) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        missing = [key for key, kind in needed.items() if not isinstance(content[key], kind)]
    except (ValueError, TypeError, KeyError) as error:
        missing, content = [str(error)], {}
    if missing:
        raise ValueError(f"{path} is damaged ({', '.join(missing)}); {way_out}")
    return content
