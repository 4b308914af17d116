"""TensorBoard's event files, written by whoever has the figures.

The writers of PyTorch and Stable-Baselines3 write in a thread of their own, where a full disk is a traceback and not an
error of the run; and nobody closes them.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from stable_baselines3.common.logger import KVWriter
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

_count = itertools.count()  # of files of this process


class EventFile(KVWriter):
    """One event file, which appears with its first figure; also an output of SB3's `Logger`.

    Args:
        folder: where it belongs; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        begun = f"{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_count)}"
        self._path = folder / f"events.out.tfevents.{begun}"
        self._stream: BinaryIO | None = None

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a point to a curve; the next `flush` writes it.

        Raises:
            OSError: if the file can't be written.
        """
        figures = Summary(value=[Summary.Value(tag=name, simple_value=float(value))])
        self._write(Event(wall_time=time.time(), step=step, summary=figures))

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """The figures of SB3 that are numbers; see `KVWriter.write`.

        Raises:
            OSError: if the file can't be written.
        """
        for name, value in sorted(key_values.items()):
            if "tensorboard" not in key_excluded[name] and isinstance(value, int | float | np.number):
                self.add(name, float(value), step)
        self.flush()

    def flush(self) -> None:
        """Writes what was added.

        Raises:
            OSError: if the file can't be written.
        """
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                error.filename = str(self._path)
                raise

    def close(self) -> None:
        """Closes the file; a later figure opens it again. What `flush` could not write is lost."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()

    def __del__(self) -> None:
        self.close()

    def _write(self, event: Event) -> None:
        try:
            if self._stream is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self._path.open("ab")
                if not self._stream.tell():
                    first = Event(wall_time=time.time(), file_version="brain.Event:2")
                    RecordWriter(self._stream).write(first.SerializeToString())
            RecordWriter(self._stream).write(event.SerializeToString())
        except OSError as error:
            error.filename = error.filename or str(self._path)
            raise
