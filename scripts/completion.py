"""Scripts with which a shell completes the `gfnet` command: subcommands, options, configs, environments and agents."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import shtab

from agents.algorithms.registry import AGENTS
from agents.leaderboard.trainers import TRAINERS
from agents.runs.config_files import built_in_configs
from agents.runs.results import POLICIES
from gfnet_env import TASKS


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that makes a shell complete a command line.

    Args:
        parser: its grammar; parses nothing any more after this.
        shell: one of `scripts.cli.SHELLS`.
    """
    for command in _subcommands(parser):
        for action in command._actions:
            _complete(action)
    script: str = shtab.complete(parser, shell)
    return script


def _subcommands(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    (found,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return found.choices.values()


def _complete(action: argparse.Action) -> None:
    """Says what an argument may be, by its name, which means the same in all subcommands."""
    names: dict[str, Iterable[str]] = {"id": TASKS, "task": TASKS, "names": [*AGENTS, *TRAINERS], "policies": POLICIES}
    names_or_files: dict[str, Iterable[str]] = {
        "config": built_in_configs(),
        "what": TASKS,  # or a run
        "policy": ("reference", "random"),  # or a run
    }
    if action.dest in names:
        action.choices = list(names[action.dest])
    elif action.dest in names_or_files:
        action.complete = _words_or_files(action.dest, names_or_files[action.dest])  # type: ignore[attr-defined]
    elif action.type is Path or action.dest == "run":  # or a pack on the Hub
        action.complete = shtab.FILE  # type: ignore[attr-defined]


def _words_or_files(name: str, words: Iterable[str]) -> dict[str, object]:
    """Some words, and files: what each shell calls that."""
    function, several = f"_gfnet_{name}", " ".join(words)
    return {
        "bash": function,
        "zsh": function,
        "fish": f"{several} (__fish_complete_path (commandline -ct))",
        "preamble": {
            "bash": f'{function}() {{\n  compgen -W "{several}" -- $1\n  compgen -f -- $1\n}}\n',
            "zsh": f"{function}() {{\n  compadd -- {several}\n  _files\n}}\n",
        },
    }
