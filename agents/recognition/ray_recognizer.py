"""Recognition on Ray: actors that each hold a recognizer read files and write rows as Parquet."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from agents.recognition.recognizer import Recognition, Recognizer
from classifiers.data.decoding import UnreadableImageError

_FILES_IN_BLOCK = 1024  # so many are recognized again if an actor is killed


@contextmanager
def ray_session(num_cpus: int) -> Iterator[Any]:
    """Ray, on the cluster that `RAY_ADDRESS` names, or on this machine for as long as the block runs.

    Args:
        num_cpus: processors to use of this machine.

    Raises:
        ModuleNotFoundError: if the extra `ray` is not installed.
    """
    _check_ray()
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        address = None if "RAY_ADDRESS" not in os.environ else "auto"
        ray.init(address=address, **({} if address else {"num_cpus": num_cpus}), include_dashboard=False)
    try:
        yield ray
    finally:
        if started_here:
            ray.shutdown()


def _check_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise ModuleNotFoundError("--engine ray needs Ray; run `pip install 'gfnet-gym[ray]'`")


class RayRecognizer:
    """A function for `ray.data.Dataset.map_batches` with `batch_format="pyarrow"`: paths in, rows out.

    Each actor loads the networks once. A file that can't be read is a row with its reason in `error`.

    Args:
        load: makes the recognizer, such as `functools.partial(agents.load_recognizer, "hf://OWNER/NAME")`.
        imports: modules to import first, which may add agents or encoders.
        path: where Python looks for these, `sys.path` of the process that asks.
    """

    def __init__(self, load: Callable[[], Recognizer], imports: Sequence[str] = (), path: Sequence[str] = ()) -> None:
        torch.set_num_threads(1)
        sys.path += [each for each in path if each not in sys.path]
        for module in imports:
            importlib.import_module(module)
        self.recognizer = load()

    def __call__(self, batch: Any) -> Any:
        """Recognizes files.

        Args:
            batch: a `pyarrow.Table` with a column `path`: files or addresses.

        Returns:
            A `pyarrow.Table` with a row for each, in order: `path`; `label`, `class`, `confidence`, `step`,
            `multiply_adds`; `places`, [row, col] of each patch in [0, 1]; `error`, why it was not read. Either `error`
            or all the others are null.
        """
        import pyarrow

        paths: list[str] = batch["path"].to_pylist()
        rows: dict[str, dict[str, Any]] = {}

        def note(path: str, error: UnreadableImageError) -> None:
            rows[path] = {"path": path, "error": str(error)}

        for some, found in self.recognizer.stream(paths, note, num_workers=0):
            for index, path in enumerate(map(str, some)):
                rows[path] = {"path": path, **self._row(found, index)}
        return pyarrow.Table.from_pylist([rows[path] for path in paths], schema=_schema())

    def _row(self, found: Recognition, index: int) -> dict[str, Any]:
        label, step, names = int(found.label[index]), int(found.step[index]), self.recognizer.class_names
        return {
            "label": label,
            "class": names[label] if names else str(label),
            "confidence": float(found.confidence[index]),
            "step": step,
            "multiply_adds": int(found.multiply_adds[index]),
            "places": found.locations[index, : step - 1].tolist(),
        }


def _schema() -> Any:
    import pyarrow

    columns = {
        "path": pyarrow.string(),
        "label": pyarrow.int64(),
        "class": pyarrow.string(),
        "confidence": pyarrow.float32(),
        "step": pyarrow.int64(),
        "multiply_adds": pyarrow.int64(),
        "places": pyarrow.list_(pyarrow.list_(pyarrow.float32())),
        "error": pyarrow.string(),
    }
    return pyarrow.schema(list(columns.items()))


def recognize_with_ray(
    load: Callable[[], Recognizer],
    files: Sequence[Path | str],
    out: Path,
    *,
    jobs: int = 1,
    batch_size: int = 128,
    imports: Sequence[str] = (),
) -> int:
    """Recognizes files with several actors and writes Parquet files, all or none.

    Ray restarts actors that are killed and gives their batches to others.

    Args:
        load: see `RayRecognizer`.
        files: paths, which all machines must see, or addresses.
        out: folder of the Parquet files, which must not exist; rows are in no order.
        jobs: number of actors, each with one processor.
        batch_size: files at a time.
        imports: see `RayRecognizer`.

    Returns:
        How many files could not be read.

    Raises:
        FileExistsError: if `out` exists.
        ModuleNotFoundError: if the extra `ray` is not installed.
        ValueError: if `jobs` is below 1.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}; pass 1 or more")
    if out.exists():
        raise FileExistsError(f"{out} exists; pass another folder, or delete it")
    out = out.absolute()
    _check_ray()
    from pyarrow import parquet

    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        ray_session(jobs + 1) as ray,  # one to read and write
        tempfile.TemporaryDirectory(dir=out.parent, prefix=".gfnet-", suffix=".tmp") as inside,
    ):
        paths = [str(file) if isinstance(file, str) else str(file.absolute()) for file in files]
        blocks = min(len(paths), max(4 * jobs, len(paths) // _FILES_IN_BLOCK))
        data = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=blocks).map_batches(
            RayRecognizer,
            fn_constructor_args=(load, tuple(imports), tuple(sys.path)),
            batch_format="pyarrow",
            batch_size=batch_size,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=jobs),
        )
        data.write_parquet(f"{inside}/rows")
        errors = parquet.read_table(f"{inside}/rows", columns=["error"])["error"]
        (Path(inside) / "rows").rename(out)
    return len(errors) - int(errors.null_count)
