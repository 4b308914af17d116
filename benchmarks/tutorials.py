"""Executes the tutorials, the notebooks of `docs/tutorials/`, and writes them with their outputs.

    python benchmarks/tutorials.py [NAME...] [--out FOLDER]

Without `--out` the notebooks are replaced (`make tutorials`). Outputs are kept in them, so that documents can be
rendered without executing anything; pictures are small JPEGs, and nothing that changes from run to run, as times of
execution, is stored.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

_FORMAT: Any = nbformat  # which has no types
FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb")))
_PROLOGUE = """
import warnings
%config InlineBackend.figure_formats = ["jpeg"]
%config InlineBackend.print_figure_kwargs = {"bbox_inches": "tight", "pil_kwargs": {"quality": 80}}
warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars of other libraries, which none draws
"""


def execute(name: str, out: Path) -> float:
    """Executes a tutorial in an empty folder.

    Args:
        name: one of `NAMES`.
        out: the folder in which it is written.

    Returns:
        Processor seconds that it took.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    notebook = _FORMAT.read(FOLDER / f"{name}.ipynb", as_version=4)
    notebook.cells.insert(0, _FORMAT.v4.new_code_cell(_PROLOGUE))
    before = _processor_seconds()
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            record_timing=False,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],  # not that its ports on this machine are not encrypted
        ).execute()
    del notebook.cells[0]
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    out.mkdir(parents=True, exist_ok=True)
    _FORMAT.write(notebook, out / f"{name}.ipynb")
    return _processor_seconds() - before


def _processor_seconds() -> float:
    """Of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where they are written; in their place if left out")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in options.names or NAMES:
        seconds = execute(name, options.out)
        kilobytes = (options.out / f"{name}.ipynb").stat().st_size / 1000
        print(f"{name}: {seconds:.0f} processor seconds, {kilobytes:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
