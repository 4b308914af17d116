"""Runs a subcommand: its output, its errors, its exit code."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from classifiers.devices import tune_malloc
from scripts.commands import COMMANDS
from scripts.console import PlainConsole, format_error, is_our_own


def run_command(options: argparse.Namespace) -> int:
    """Runs the command that was parsed; see `scripts.cli.main`."""
    tune_malloc()
    for stream in (sys.stdout, sys.stderr):  # a name that a terminal's encoding lacks is shown escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    errors = PlainConsole(stderr=True)
    try:
        _import(options.imports, also_here=bool(getattr(options, "external", None)))
        COMMANDS[options.command](options, PlainConsole(quiet=options.quiet))
        sys.stdout.flush()
    except KeyboardInterrupt:
        errors.print("interrupted; the same command continues where it stopped")
        return 130
    except BrokenPipeError:  # who reads has enough, as `gfnet ... | head` does
        _drop_output()
        return 1
    except Exception as error:
        _drop_output()
        if options.traceback or os.environ.get("GFNET_DEBUG") or not is_our_own(error):
            raise
        errors.print(f"gfnet: {format_error(error)}")
        return 1
    return 0


def _drop_output() -> None:
    """Leaves Python nothing that it could not write when it ends, which would be an error of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _import(modules: Sequence[str], *, also_here: bool) -> None:
    """Imports the user's own modules, also from the current folder, in which a command may look for others."""
    if modules or also_here:
        sys.path.insert(0, os.getcwd())
    for module in modules:
        importlib.import_module(module)
