"""The curves of a run: `metrics.jsonl`, one line for each epoch and rollout, and the same for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from classifiers.files import json_text, non_finite_as_null, write_text


class RunLog:
    """What was measured when, each (stage, step) once, however often a run is interrupted.

    Args:
        path: the `.jsonl` file.
        tensorboard: folder of the event files.
    """

    def __init__(self, path: Path, tensorboard: Path) -> None:
        self._path, self._tensorboard = path, tensorboard
        self._writer: SummaryWriter | None = None
        self._lines: dict[tuple[str, int], dict[str, Any]] = {}
        if path.is_file():
            for text in path.read_text(encoding="utf-8").splitlines():
                line = json.loads(text)
                self._lines[line["stage"], line["step"]] = line

    def add(self, stage: str, step: int, figures: dict[str, float]) -> None:
        """Notes figures, null for those that are NaN or infinite; kept on disk by the next `write`."""
        self._lines[stage, step] = {"stage": stage, "step": step, **non_finite_as_null(figures)}
        if self._writer is None:
            self._writer = SummaryWriter(str(self._tensorboard))
        for name, value in figures.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def add_seconds(self, stage: str, seconds: float) -> float:
        """Adds to the time that a stage has taken so far, interruptions in order included; returns the sum."""
        so_far = self._lines.get(("seconds:" + stage, 0), {}).get("seconds", 0.0)
        self._lines["seconds:" + stage, 0] = {"stage": "seconds:" + stage, "step": 0, "seconds": so_far + seconds}
        self.write()
        return float(so_far + seconds)

    def write(self) -> None:
        """Writes all lines, whole or not at all."""
        write_text(self._path, "".join(json_text(line) + "\n" for line in self._lines.values()))
        if self._writer is not None:
            self._writer.flush()


def curve(path: Path, stage: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one curve of a `metrics.jsonl`; empty where there is none."""
    if not path.is_file():
        return [], []
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    points = sorted(
        (line["step"], line[name]) for line in lines if line["stage"] == stage and line.get(name) is not None
    )
    return [step for step, _ in points], [value for _, value in points]
